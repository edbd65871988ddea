# The HTTP client under valgrind, which also sees what libcurl does with the
# memory it is given.  Without the sanitizers, which valgrind does not bear.

VALGRIND = valgrind --quiet --error-exitcode=1 --leak-check=full \
	--errors-for-leak-kinds=definite,indirect,possible

.PHONY: valgrind
valgrind:
	$(MAKE) --no-print-directory BUILD=$(BUILD)/valgrind SANITIZE= TESTS=test_http all
	$(VALGRIND) $(BUILD)/valgrind/test_http
