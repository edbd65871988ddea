/*
 * queue_news.c
 *		News about the queue between sessions and the worker.
 */
#include "postgres.h"

#include "shared/queue_news.h"

static bool
is_before(const OeQueuePosition *a, const OeQueuePosition *b)
{
	return a->due < b->due || (a->due == b->due && a->call_id < b->call_id);
}

void
oe_news_add(OeQueueNews *news, const OeQueuePosition *position)
{
	for (int i = 0; i < news->count; i++)
	{
		if (news->first[i].priority != position->priority)
			continue;
		if (is_before(position, &news->first[i]))
			news->first[i] = *position;
		return;
	}
	if (news->count < OE_QUEUE_NEWS_MAX)
		news->first[news->count++] = *position;
	else
		news->everything = true;
}

void
oe_news_merge(OeQueueNews *news, const OeQueueNews *more)
{
	news->everything |= more->everything;
	news->decided |= more->decided;
	news->end_pauses |= more->end_pauses;
	for (int i = 0; i < more->count; i++)
		oe_news_add(news, &more->first[i]);
}

void
oe_status_count(OeQueueStatus *status, TimestampTz now, uint32 settled)
{
	int64		second = now / USECS_PER_SEC;

	/* Nothing was settled in the seconds in between. */
	if (second - status->second >= OE_QUEUE_SECONDS || second < status->second)
		memset(status->settled, 0, sizeof(status->settled));
	else
	{
		for (int64 s = status->second + 1; s <= second; s++)
			status->settled[s % OE_QUEUE_SECONDS] = 0;
	}
	status->second = second;
	status->settled[second % OE_QUEUE_SECONDS] += settled;
}

int64
oe_status_last_minute(const OeQueueStatus *status, TimestampTz now)
{
	OeQueueStatus copy = *status;
	int64		sum = 0;

	oe_status_count(&copy, now, 0);
	for (int i = 0; i < OE_QUEUE_SECONDS; i++)
		sum += copy.settled[i];
	return sum;
}
