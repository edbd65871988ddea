/*
 * apply_rows.c
 *		The applier's changes to ocean_enrich.sync_row and sync_settled.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "sync/apply_rows.h"

/* The ctids were just read, and nothing else may change the rows now. */
static OeStatement remove_statement = {
	"DELETE FROM ocean_enrich.sync_row WHERE ctid = ANY ($1)",
	1, {TIDARRAYOID}, NULL
};

static OeStatement update_statement = {
	"UPDATE ocean_enrich.sync_row AS r SET state = v.state::ocean_enrich.sync_row_state,"
	" call_id = v.call_id, differences = v.differences,"
	" error_code = v.error_code, message = v.message,"
	" settled_at = CASE v.settled WHEN 0 THEN NULL WHEN 1 THEN r.settled_at ELSE now() END,"
	" refresh_at = CASE v.settled WHEN 0 THEN NULL WHEN 1 THEN r.refresh_at ELSE now() +"
	" (SELECT s.refresh_after FROM ocean_enrich.sync AS s WHERE s.sync_id = r.sync_id) END"
	" FROM unnest($1, $2, $3, $4, $5, $6, $7) AS v (tid, state, call_id,"
	" differences, error_code, message, settled) WHERE r.ctid = v.tid",
	OE_APPLY_COLUMNS, {TIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID}, NULL
};

static OeStatement note_statement = {
	"INSERT INTO ocean_enrich.sync_settled (sync_id, call_id) SELECT $1, unnest($2)",
	2, {INT8OID, INT8ARRAYOID}, NULL
};

void
oe_apply_begin_updates(OeUpdates *updates, int max)
{
	memset(updates, 0, sizeof(*updates));
	for (int i = 0; i < OE_APPLY_COLUMNS; i++)
	{
		updates->values[i] = palloc0(sizeof(Datum) * max);
		updates->nulls[i] = palloc0(sizeof(bool) * max);
	}
	updates->removed = palloc(sizeof(Datum) * max);
}

void
oe_apply_set_row(OeUpdates *updates, Datum tid, const char *state,
				 int64 call_id, int differences, const char *error_code,
				 const char *message, OeSettled settled)
{
	int			i = updates->count++;

	updates->values[0][i] = tid;
	updates->values[1][i] = CStringGetTextDatum(state);
	updates->values[2][i] = Int64GetDatum(call_id);
	updates->nulls[2][i] = call_id == 0;
	updates->values[3][i] = Int32GetDatum(differences);
	updates->nulls[4][i] = error_code == NULL;
	if (error_code)
		updates->values[4][i] = CStringGetTextDatum(error_code);
	updates->nulls[5][i] = message == NULL;
	if (message)
		updates->values[5][i] = CStringGetTextDatum(message);
	updates->values[6][i] = Int32GetDatum((int32) settled);
}

void
oe_apply_remove_row(OeUpdates *updates, Datum tid)
{
	updates->removed[updates->removed_count++] = tid;
}

void
oe_apply_write_updates(const OeUpdates *updates)
{
	static const Oid types[OE_APPLY_COLUMNS] = {TIDOID, TEXTOID, INT8OID, INT4OID,
		TEXTOID, TEXTOID, INT4OID};
	Datum		values[OE_APPLY_COLUMNS];

	if (updates->removed_count > 0)
	{
		values[0] = oe_statement_array(updates->removed, NULL,
									   updates->removed_count, TIDOID);
		(void) oe_statement_run(&remove_statement, values, NULL);
	}
	if (updates->count == 0)
		return;
	for (int i = 0; i < OE_APPLY_COLUMNS; i++)
		values[i] = oe_statement_array(updates->values[i], updates->nulls[i],
									   updates->count, types[i]);
	(void) oe_statement_run(&update_statement, values, NULL);
}

void
oe_apply_note_settled(const OeSync *sync, Datum *call_ids, int count)
{
	Datum		values[2];

	if (count == 0)
		return;
	values[0] = Int64GetDatum(sync->id);
	values[1] = oe_statement_array(call_ids, NULL, count, INT8OID);
	(void) oe_statement_run(&note_statement, values, NULL);
}
