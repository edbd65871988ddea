# rotation.pl
#	The URL of webhooks as a setting: it goes to the API alone, and to no table,
#	statement or log.  When its secret is changed, what is under way arrives, from
#	sessions, the queue and syncs, and nobody is paid for twice.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node fails wait_until books_agree);
use WebhookTest qw(prepare);
use Digest::SHA qw(sha256_hex);
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my ($old, $new) = ('Zx81-the-old-secret', 'Zx81-the-new-secret');
my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
prepare($node, 'sha256:' . sha256_hex($old));
my $forwarder = WebhookTest::Forwarder->new($node);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Changes the server's configuration, in a file that no statement quotes.
sub configure
{
	my (%settings) = @_;
	$node->append_conf('postgresql.conf', "ocean_enrich.$_ = '$settings{$_}'") foreach keys %settings;
	$node->reload;
	wait_until($node, "SELECT current_setting('ocean_enrich.$_') = '$settings{$_}'") foreach keys %settings;
	return;
}

# Both by webhook.
sub request
{
	my ($email, $more) = @_;
	return "ocean_person_request(email => '$email\@example.com', reveal_emails_by_webhook => true, reveal_phones_by_webhook => true"
	  . ($more // '') . ')';
}

# How many of these people have got both.
sub complete
{
	my ($pattern) = @_;
	return sql(qq{SELECT count(*) FROM ocean_enrich.call, ocean_person(answer) AS p
		WHERE request #>> '{person,email}' ~ '$pattern' AND p.email_status = 'verified' AND p.phone_status = 'verified'});
}

sub charged { return join '|', @{ $sandbox->books }{qw(charges reveals_charged)} }

# Without a URL

my $unset = qr/22023: no webhook URL is set\nHINT:  Ask the administrator to set "ocean_enrich.webhook_url", or give the request a "webhookUrl"/;
fails($node, 'SELECT ocean_enrich_person(' . request('unset') . ')', $unset, 'unset: a call');
fails($node, 'SELECT ocean_enrich.submit(' . request('unset') . ')', $unset, 'unset: the queue');
is($sandbox->books->{requests}, 0, 'unset: nothing is sent');
configure(webhook_url => $forwarder->url('elsewhere'), queue_enabled => 'off');
my $waiting = sql('SELECT ocean_enrich.submit(' . request('late') . ')');
configure(webhook_url => '', queue_enabled => 'on');
wait_until($node, "SELECT state = 'failed' FROM ocean_enrich.call WHERE call_id = $waiting");
is(sql("SELECT detail FROM ocean_enrich.call WHERE call_id = $waiting"), 'ocean_enrich.webhook_url is not set', 'unset: in the worker');

# With it

configure(webhook_url => $forwarder->url($old));
is(sql("SELECT ocean_enrich.retry($waiting)"), 't', 'set: what was queued is tried again');
is(sql('SELECT e #>> $${phone,status}$$ FROM ocean_enrich_person(' . request('anna') . ') AS e'), 'inProgress', 'set: asked for');
$sandbox->wait(webhooks => 4);
is(complete('^(anna|late)@'), 2, 'set: they come to the URL');
is( sql(q{SELECT DISTINCT request - 'person' FROM ocean_enrich.call}),
	'{"revealEmails": {"byWebhook": true, "includeEmails": true}, "revealPhones": {"byWebhook": true, "includePhones": true}}',
	'set: the ledger has the request without it');

# What a request says itself

my $charged = charged();
is(sql('SELECT ocean_enrich_person(' . request('anna', ", reveal_phones_webhook_url => 'https://elsewhere.example/'") . ') #>> $${phone,status}$$'),
	'verified', 'its own URL does not make a request another one');
is(sql('SELECT ocean_enrich_person(' . request('anna', ', reveal_phones => true, reveal_emails => false') . ') #>> $${phone,status}$$'),
	'verified', 'nor does less of it');
is(charged(), $charged, '... and costs nothing');
my $refused = $sandbox->books->{webhooks_refused};
sql('SELECT ocean_enrich_person(' . request('berta', ", reveal_emails => false, reveal_phones_webhook_url => 'https://elsewhere.example/'") . ')');
is($sandbox->books->{webhooks_refused}, $refused + 1, 'its own URL is used, and nothing that it does not ask for');
is( sql(q{SELECT request - 'person', reveals_by_webhook FROM ocean_enrich.call WHERE request #>> '{person,email}' ~ 'berta'}),
	'{"revealEmails": {"includeEmails": false}, "revealPhones": {"webhookUrl": "https://elsewhere.example/", "includePhones": true}}|{phone}',
	'... as the ledger has it');
sql('TRUNCATE ocean_enrich.call, ocean_enrich.reveal');
$sandbox->reset;

# Another secret, while webhooks of the old one are on their way: of a session, of the
# queue, and of a sync

sql(q{
	CREATE TABLE contacts (id integer PRIMARY KEY, email text, enriched jsonb);
	INSERT INTO contacts SELECT i, 'sync' || i || '@example.com' FROM generate_series(1, 3) AS i;
	SELECT ocean_enrich.create_sync('contacts', 'contacts',
		'ocean_person_request(email => email, reveal_emails_by_webhook => true, reveal_phones_by_webhook => true)', 'enriched')});
wait_until($node, q{SELECT count(enriched) = 3 FROM contacts});
$sandbox->wait(webhooks => 6);
$forwarder->refuse(1);
$sandbox->config(webhook_retry_ms => 20);
sql('SELECT ocean_enrich_person(' . request('session') . ')');
sql('SELECT ocean_enrich.submit(' . request('queue') . ')');
wait_until($node, q{SELECT count(*) = 2 FROM ocean_enrich.open_reveals});
configure(queue_enabled => 'off');
sql('SELECT ocean_enrich.submit(' . request('queued') . ')');
configure(webhook_secret => 'sha256:' . sha256_hex($old) . ', sha256:' . sha256_hex($new));
configure(webhook_url => $forwarder->url($new), queue_enabled => 'on');
sql('SELECT ocean_enrich_person(' . request('after') . ')');
wait_until($node, q{SELECT count(*) = 4 FROM ocean_enrich.open_reveals});
$forwarder->refuse(0);
$sandbox->wait(webhooks => 14);
is(complete('^(session|queue|queued|after)@'), 4, 'another: nothing is lost');
is(scalar(grep { $_->[0] == 403 } $forwarder->answers), 0, 'another: nothing was refused');
is(charged(), '7|77', 'another: each was paid once');

# The old one is refused from now on, and what still carries it is repeated until it is
# taken back.

configure(webhook_secret => 'sha256:' . sha256_hex($new));
configure(webhook_url => $forwarder->url($old));
sql('SELECT ocean_enrich_person(' . request('straggler') . ')');
$sandbox->wait(webhook_failures => $sandbox->books->{webhook_failures} + 2);
is(complete('^straggler@'), 0, 'removed: the old one is refused');
configure(webhook_secret => 'sha256:' . sha256_hex($new) . ', sha256:' . sha256_hex($old));
$sandbox->wait(webhooks => 16);
is(complete('^straggler@'), 1, 'removed: put back, nothing was lost');

# Equal requests after it: from the ledger, and by a sync that looks at its rows again

$charged = charged();
configure(webhook_secret => 'sha256:' . sha256_hex($new), webhook_url => $forwarder->url($new));
is( sql('SELECT count(*) FROM (VALUES ' . join(', ', map { '(' . request($_) . ')' } qw(session queue queued after straggler)) . ') AS v (r),
	LATERAL ocean_try_enrich_person(r) AS t WHERE t.reused'), 5, 'equal requests are answered from the ledger');
sql(q{UPDATE contacts SET email = upper(email)});
wait_until($node, q{SELECT waiting = 0 FROM ocean_enrich.sync_status});
is(charged(), $charged, '... and cost nothing');
is(sql(q{SELECT count(*) FROM ocean_enrich.call, ocean_enrich.reveal AS r WHERE r.email_status IS NULL AND r.call_id = ocean_enrich.call.call_id}),
	0, '... and wait for nothing');

books_agree($node, $sandbox, 'in the end');
is(sql('SELECT sum(credits) FROM ocean_enrich.webhook WHERE received_at > now() - interval $$1 hour$$'), 110, 'so do those of the reveals');

# Where it stands

is(sql(q{SELECT count(*) FROM ocean_enrich.call WHERE request::text ~ 'Zx81' OR detail ~ 'Zx81'}), 0, 'no call has the secret');
my ($dump) = run_command([ 'pg_dumpall', '--host', $node->host, '--port', $node->port, '--username', getpwuid($<) ]);
unlike($dump, qr/Zx81/, 'nor has a dump');
done_testing();
