# The HTTP client under valgrind, which also checks how libcurl uses the memory
# it is given.  The sanitizers are off, since valgrind does not work with them.

VALGRIND = valgrind --quiet --error-exitcode=1 --leak-check=full \
	--errors-for-leak-kinds=definite,indirect,possible

.PHONY: valgrind
valgrind:
	$(MAKE) --no-print-directory BUILD=$(BUILD)/valgrind SANITIZE= TESTS=test_http all
	$(VALGRIND) $(BUILD)/valgrind/test_http
