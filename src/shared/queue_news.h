/*
 * queue_news.h
 *		News about the queue between sessions and the worker: the positions
 *		that have changed, and how the worker serves it.
 */
#ifndef OE_QUEUE_NEWS_H
#define OE_QUEUE_NEWS_H

#include "datatype/timestamp.h"

/* A place in the queue: highest priority first, then earliest, then oldest. */
typedef struct OeQueuePosition
{
	int32		priority;
	TimestampTz due;
	int64		call_id;
} OeQueuePosition;

#define OE_QUEUE_NEWS_MAX	16

/* Changes of the queue: the first changed position of each priority. */
typedef struct OeQueueNews
{
	int			count;
	bool		everything;		/* more priorities than there is room for */
	bool		decided;		/* what to do about a call that was unknown */
	bool		end_pauses;		/* whatever the API said */
	OeQueuePosition first[OE_QUEUE_NEWS_MAX];
} OeQueueNews;

/* How the worker serves the queue, for a view. */
#define OE_QUEUE_REASON_CHARS	64
#define OE_QUEUE_SECONDS		60

typedef struct OeQueueStatus
{
	char		pause[OE_QUEUE_REASON_CHARS];	/* why nothing goes; empty: it
												 * does */
	TimestampTz paused_until;	/* 0: not known */
	TimestampTz next_due;		/* of what waits; DT_NOEND: nothing does */
	int			in_flight;
	int64		second;			/* the last one in which anything was settled */
	uint32		settled[OE_QUEUE_SECONDS];	/* in each of the last seconds */
} OeQueueStatus;

extern void oe_status_count(OeQueueStatus *status, TimestampTz now, uint32 settled);
extern int64 oe_status_last_minute(const OeQueueStatus *status, TimestampTz now);

extern void oe_news_add(OeQueueNews *news, const OeQueuePosition *position);
extern void oe_news_merge(OeQueueNews *news, const OeQueueNews *more);

#endif							/* OE_QUEUE_NEWS_H */
