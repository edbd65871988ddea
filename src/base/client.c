/*
 * client.c
 *		The client of a session: is it still there?
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"

#include "base/client.h"

/* Not by libpq/libpq.h, which needs the headers of GSSAPI and OpenSSL. */
extern bool pq_check_connection(void);

static bool
is_time_to_check(void)
{
	static instr_time checked_at;
	instr_time	now;
	instr_time	since;

	INSTR_TIME_SET_CURRENT(now);
	since = now;
	INSTR_TIME_SUBTRACT(since, checked_at);
	if (!INSTR_TIME_IS_ZERO(checked_at) &&
		INSTR_TIME_GET_MILLISEC(since) < OE_CLIENT_CHECK_MS)
		return false;
	checked_at = now;
	return true;
}

void
oe_client_check(void)
{
	if (!MyProcPort || !WaitEventSetCanReportClosed() || !is_time_to_check())
		return;
	if (!pq_check_connection())
	{
		ClientConnectionLost = true;
		InterruptPending = true;
	}
	/* It resets the latch in order to see the socket. */
	SetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
