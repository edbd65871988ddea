# ChaosKinds.pm
#	All kinds of trouble: faults of persons and of the API, its weather, and the
#	settings that change.  Anything of the sandbox or the extension that is left out
#	here needs a reason, or the soak fails: see missing().

use strict;
use warnings FATAL => 'all';

package ChaosKinds;

use File::Basename qw(dirname);
use JSON::PP;
use PostgreSQL::Test::Utils;

# Faults of a person, who always gets the same answer.  429 is not among them, since the
# queue would try such a person forever.
my @faults = qw(sb-unknown sb-gathering-200 sb-status-201 sb-status-204 sb-status-301
  sb-status-400 sb-status-402 sb-status-403 sb-detail-verification sb-status-408 sb-status-413
  sb-status-418 sb-status-500 sb-status-502 sb-status-503 sb-status-504 sb-status-521
  sb-status-524 sb-status-599 sb-once-503 sb-once-429 sb-once-402 sb-once-403 sb-once-500
  sb-toolittle-422 sb-toolittle-404 sb-422 sb-redirect sb-latency-300 sb-hang sb-cut-before
  sb-cut-lost sb-cut-during sb-truncated sb-cut-after sb-drip-300 sb-oversized-1500 sb-badjson
  sb-notobject sb-empty sb-noid sb-detail200 sb-badutf8 sb-nul sb-surrogate sb-hugeint
  sb-newkeys sb-nulls sb-minimal sb-unicode sb-latin1 sb-html sb-deep-5000 sb-badcredits-1
  sb-badcredits-2 sb-badcredits-3 sb-badcredits-4);

# Faults that can happen to any person, for a while.
my @passing_faults = qw(sb-status-503 sb-status-502 sb-status-500 sb-status-422 sb-status-402
  sb-status-403 sb-status-429 sb-detail-verification sb-retryafter-1 sb-retrydate-1
  sb-toolittle-404 sb-cut-before sb-cut-lost sb-cut-during sb-cut-after sb-hang
  sb-gathering-50 sb-badjson sb-drip-300 sb-truncated sb-redirect);

# Faults of a person whose e-mail address and phone number are requested.
my @reveal_faults = qw(sb-notrevealed);

# The configuration of a sandbox at the start and at the end.
my %calm = (
	fault => undef, fault_probability => 1, redirect_to => '/elsewhere', down => undef,
	credits => undef, credits_used => JSON::PP::false, newer_keys => JSON::PP::false,
	latency_ms => 5, rate_limit => 0, rate_window_ms => 60000, rate_window_kind => 'sliding',
	retry_after_s => undef, emails_status => undef, phones_status => undef, keepalive_requests => 0,
	webhook_copies => 1, webhook_delay_ms => 0, webhook_retry_ms => 100,
	webhook_form => 'person', balance_status => undef, balance_changes => undef,
	hold => JSON::PP::false, hold_answers => JSON::PP::false);

# The keys of its configuration that are not weather, with the reason.
my %no_weather = (
	cost => 'fixed for each database', email_cost => 'likewise', phone_cost => 'likewise',
	latency_jitter_ms => 'likewise', seed => 'likewise',
	add_credits => 'by the action "buy"', release => 'by the action "hold"', close_idle => 'a one-time command',
	identical_tokens_conflict => 'the token is never sent twice');

# Settings that change during the chaos, and their values.
my @settings = (
	[ 'ocean_enrich.max_concurrency', 1, 4, 64, 200 ],
	[ 'ocean_enrich.concurrency', 1, 8, 16, 64 ],
	[ 'ocean_enrich.request_timeout', '300ms', '2s' ],
	[ 'ocean_enrich.connect_timeout', '20ms', '10s' ],
	[ 'ocean_enrich.max_retries', 0, 3 ],
	[ 'ocean_enrich.retry_wait_max', '10ms', '200ms' ],
	[ 'ocean_enrich.gathering_wait', '10ms', '100ms' ],
	[ 'ocean_enrich.gathering_retries', 0, 8 ],
	[ 'ocean_enrich.queue_enabled', 'off', 'on' ],
	[ 'ocean_enrich.queue_retries', 1, 10 ],
	[ 'ocean_enrich.balance_interval', '1s', '1min' ],
	[ 'ocean_enrich.daily_limit', 50, 0 ],
	[ 'ocean_enrich.credit_limit', 100, 0 ],
	[ 'ocean_enrich.rate_limit', 100, 0 ],
	[ 'ocean_enrich.token_in', 'query', 'header' ],
	[ 'ocean_enrich.not_found', 'null', 'error' ],
	[ 'ocean_enrich.unknown_keys', 'pass', 'error' ],
	[ 'ocean_enrich.proxy', 'http://127.0.0.1:1', '' ],
	[ 'ocean_enrich.webhook_secret', 'another', 'open-sesame' ],
	[ 'ocean_enrich.webhook_url', 'https://elsewhere.example/', '' ],
	[ 'ocean_enrich.api_token', 'not-registered', 'sandbox-token' ]);

my %no_setting = (
	'ocean_enrich.api_url' => 'another account, which is not in these books',
	'ocean_enrich.api_token_file' => 'api_token takes precedence',
	'ocean_enrich.ca_file' => 'the sandbox uses plain http here',
	'ocean_enrich.credits_per_call' => 'set for each database, to the cost of its sandbox',
	'ocean_enrich.credits_per_email' => 'likewise',
	'ocean_enrich.credits_per_phone' => 'likewise',
	'ocean_enrich.equal' => 'by the other rule, what was paid for is charged again',
	'ocean_enrich.placeholders' => 'its people have no such values',
	'ocean_enrich.record_before_send' => 'without it, a crash may cost credits that no book has',
	'ocean_enrich.retention' => 'an erased person may be charged again; so it is only set for the copy',
	'ocean_enrich.reuse_for' => 'a shorter time charges again',
	'ocean_enrich.reuse_not_found_for' => 'as above',
	'ocean_enrich.worker_idle_timeout' => 'by the action "setting of the processes"');

sub calm { return {%calm} }
sub setting_names { return map { $_->[0] } @settings }

sub person_fault
{
	my ($chance) = @_;
	return $chance->one_of(@faults);
}

sub reveal_fault
{
	my ($chance) = @_;
	return $chance->one_of(@reveal_faults);
}

# Returns a setting and its value.
sub setting
{
	my ($chance) = @_;
	my ($name, @values) = @{ $chance->one_of(@settings) };
	return ($name, $chance->one_of(@values));
}

# Returns the differences from calm weather until the next change.
sub weather
{
	my ($chance) = @_;
	my $fault = $chance->one_of(@passing_faults);
	my $down = $chance->one_of(500, 502, 503, 504, 520);
	my $form = $chance->one_of(qw(lists people results));
	my $stranger = $chance->one_of('/elsewhere', 'http://127.0.0.1:1/');
	return $chance->one_of(
		{}, {}, {},
		({ fault => $fault, fault_probability => 0.1, redirect_to => $stranger }) x 4,
		{ fault => $fault, fault_probability => 1, redirect_to => $stranger },
		{ down => $down }, { down => $down },
		{ credits => '60' },
		{ credits_used => JSON::PP::true },
		{ newer_keys => JSON::PP::true },
		{ rate_limit => 20, retry_after_s => 1 },
		{ close_idle => JSON::PP::true },
		{ keepalive_requests => 3 },
		{ latency_ms => 200 },
		{ webhook_copies => 2, webhook_delay_ms => 100 },
		{ webhook_form => $form },
		{ webhook_retry_ms => 10 },
		{ balance_status => 500, credits => '60' },
		{ balance_changes => { credits => undef }, credits => '60' });
}

# The API's limit, lower than what is sent.
sub rate_limit
{
	my ($chance) = @_;
	my %limit = (
		rate_limit => 1 + $chance->number(20),
		rate_window_ms => 200 + $chance->number(2000),
		rate_window_kind => $chance->one_of(qw(sliding fixed)));
	my %retry_after = (retry_after_s => $chance->one_of(1, 2));
	return $chance->one_of(
		{%limit}, { %limit, %retry_after },
		{ down => 429 }, { down => 429, %retry_after });
}

# What the account may not use, or has no credits for.
sub missing_feature
{
	my ($chance) = @_;
	my $feature = $chance->one_of(qw(emails_status phones_status));
	return { $feature => $chance->one_of(402, 403) };
}

# The API itself, or a proxy that does not reach it.
sub outage
{
	my ($chance) = @_;
	return { down => $chance->one_of(500, 500, 503, 503, 521, 521, 504, 520, 522, 523, 525, 526, 530) };
}

# ----------------------------------------------------------------

# Faults, configuration keys and settings that exist but are left out here without
# a reason.
sub missing
{
	my ($world) = @_;
	my $readme = slurp_file(dirname(__FILE__) . '/../sandbox/README.md');
	my @chaotic = (@faults, @passing_faults, @reveal_faults);
	my @missing;
	foreach my $fault ($readme =~ /^\| `(sb-[a-z0-9-]+?)(?:-<n>)?` \|/mg)
	{
		push @missing, "fault $fault" unless grep { /^\Q$fault\E(?:-\d+)?$/ } @chaotic;
	}
	my ($configuration) = $readme =~ /^## Configuration\n(.*?)^## /ms;
	foreach my $keys ($configuration =~ /^\| (`[^|]*`) \|/mg)
	{
		push @missing, map { "configuration $_" } grep { !exists $calm{$_} && !$no_weather{$_} }
		  $keys =~ /`(\w+)`/g;
	}
	my %changed = map { $_ => 1 } setting_names();
	push @missing, map { "setting $_" } grep { !$changed{$_} && !$no_setting{$_} }
	  split /\n/, $world->insist(q{SELECT name FROM pg_settings WHERE name LIKE 'ocean_enrich.%'});
	return @missing;
}

1;
