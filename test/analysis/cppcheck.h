/*
 * cppcheck.h
 *		Definitions of headers that cppcheck does not read.
 */
#define PG_VERSION_NUM 150000
#define LIBCURL_VERSION_NUM 0x075800
#define pg_attribute_noreturn() __attribute__((noreturn))
#define foreach(cell, list) \
	for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))
#define CppAsString2(x) "x"
