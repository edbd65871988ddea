/*
 * answer.h
 *		The body of a 200: a person as JSON, or something that only looks like
 *		an answer.
 */
#ifndef SB_ANSWER_H
#define SB_ANSWER_H

#include "config.h"
#include "faults.h"
#include "invent.h"
#include "reply.h"

/* Fill "reply" with the 200 for "person" in the way that "fault" asks for. */
extern void sb_answer(const SbConfig *config, const SbInvention *person,
					  const SbFault *fault, SbReply *reply);

#endif							/* SB_ANSWER_H */
