/*
 * check.h
 *		Checks whether the API accepts a body.  Complains as FastAPI does: one
 *		entry for each error,
 *		{"loc": [...], "msg": ..., "type": ..., "input": ...}.
 */
#ifndef SB_CHECK_H
#define SB_CHECK_H

#include <json-c/json.h>

/*
 * The array of complaints about "body", empty if there are none.  The caller
 * owns it.
 */
extern struct json_object *sb_check_body(struct json_object *body);

/* The same for text that is not JSON from byte "offset" on. */
extern struct json_object *sb_check_no_json(size_t offset,
											const char *problem);

/* The same for a body that is missing or not declared as JSON. */
extern struct json_object *sb_check_no_body(void);
extern struct json_object *sb_check_not_declared(void);

/* Two complaints as the API makes them, one with an integer in "loc". */
extern struct json_object *sb_check_sample(void);

#endif							/* SB_CHECK_H */
