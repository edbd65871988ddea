/*
 * fuzz.h
 *		Shared by the fuzzers.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A condition that holds for every input; anything else is a finding. */
#define REQUIRE(condition) \
	do { \
		if (!(condition)) \
			fuzz_found(#condition, __FILE__, __LINE__); \
	} while (0)

extern void fuzz_found(const char *what, const char *file, int line)
			__attribute__((noreturn));

/* Valid UTF-8 for PostgreSQL: shortest forms only, no surrogates. */
extern bool fuzz_is_utf8(const char *text, size_t len);

/* libFuzzer's entry point. */
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif							/* FUZZ_H */
