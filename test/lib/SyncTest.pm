# SyncTest.pm
#	What the tests of syncs share: a role that may define them, one of them, and
#	waiting until it has nothing left to do.

use strict;
use warnings FATAL => 'all';

package SyncTest;

use Exporter 'import';
use OceanTest qw(wait_until);

our @EXPORT_OK = qw(owner create settled status applier_pid);

# A role that may define syncs.
sub owner
{
	my ($node, $role) = @_;
	$node->safe_psql(
		'postgres', qq{
		CREATE ROLE $role LOGIN;
		GRANT CREATE ON SCHEMA public TO $role;
		GRANT USAGE ON SCHEMA ocean_enrich TO $role;
		GRANT EXECUTE ON FUNCTION ocean_person_request, ocean_enrich.submit,
			ocean_enrich.create_sync, ocean_enrich.alter_sync, ocean_enrich.enable_sync,
			ocean_enrich.disable_sync, ocean_enrich.retry_sync, ocean_enrich.drop_sync TO $role;
		GRANT SELECT ON ocean_enrich.sync_status, ocean_enrich.sync_errors TO $role});
	return;
}

# create(NODE, ROLE, TABLE, REST): a sync of the column "enriched", asked for by "email",
# called as the table; gives how many rows were noted.
sub create
{
	my ($node, $role, $table, $rest) = @_;
	$rest = defined $rest ? ", $rest" : '';
	return $node->safe_psql(
		'postgres', qq{
		SET ROLE $role;
		SELECT ocean_enrich.create_sync('$table', '$table',
			'ocean_person_request(email => email)', 'enriched'$rest)});
}

# Wait until nothing is left to do.
sub settled
{
	my ($node, $name, $database) = @_;
	$name //= 'contacts';
	return if $node->poll_query_until($database // 'postgres', qq{
		SELECT waiting = 0 AND in_flight = 0 AND NOT EXISTS (SELECT FROM ocean_enrich.sync_inbox)
		FROM ocean_enrich.sync_status WHERE name = '$name'});
	die "sync $name is not settled: "
	  . join "\n", map { $node->safe_psql($database // 'postgres', $_) } (
		'TABLE ocean_enrich.sync_status', 'TABLE ocean_enrich.sync_settled',
		'SELECT key, state, call_id FROM ocean_enrich.sync_row',
		'SELECT call_id, state, next_attempt_at FROM ocean_enrich.call');
}

# state|waiting|in flight|done|not found|failed|unknown|credits
sub status
{
	my ($node, $name) = @_;
	$name //= 'contacts';
	return $node->safe_psql('postgres', qq{
		SELECT state, waiting, in_flight, done, not_found, failed, unknown, round(credits, 1)
		FROM ocean_enrich.sync_status WHERE name = '$name'});
}

sub applier_pid
{
	my ($node) = @_;
	return $node->safe_psql('postgres', q{
		SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'ocean_enrich sync applier' AND datname = current_database()});
}

1;
