/*
 * errors.sql
 *		What a statement or a call raises, as a row; for the tests beside this
 *		folder.
 */
CREATE FUNCTION pg_temp.error_of(statement text,
	OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS
		code = RETURNED_SQLSTATE,
		message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL,
		hint = PG_EXCEPTION_HINT;
END $$;

CREATE FUNCTION pg_temp.call_error(request jsonb,
	OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE sql AS $$
	SELECT * FROM pg_temp.error_of(format('SELECT ocean_enrich_person(%L)', request))
$$;
