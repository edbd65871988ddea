/*
 * estimate.h
 *		What a statement would send and cost: ocean_enrich.estimate().
 */
#ifndef OE_ESTIMATE_H
#define OE_ESTIMATE_H

/* Install the hook; called once, from _PG_init. */
extern void oe_estimate_init(void);

#endif							/* OE_ESTIMATE_H */
