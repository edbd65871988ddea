# certificates.pl
#	Certificates out of their time, of a server that is trusted otherwise: nothing
#	is sent to it.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node enrich fails);
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = OceanTest::Sandbox->new(tls => 1);
my $node = node($sandbox, extra_conf => 'ocean_enrich.max_retries = 0');
my $folder = PostgreSQL::Test::Utils::tempdir();
my $key = $sandbox->{key};
my $nth = 0;

# The sandbox's own key, with a certificate for the time from START to END.
sub certify
{
	my ($start, $end) = @_;
	append_to_file("$folder/index", '');
	open(my $file, '>', "$folder/ca.conf") or die "could not create $folder/ca.conf: $!";
	print $file <<"END";
[ca]
default_ca = sandbox
[sandbox]
database = $folder/index
serial = $folder/serial
new_certs_dir = $folder
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
END
	close $file;
	system_or_bail('openssl', 'req', '-new', '-key', $key, '-subj', '/CN=sandbox',
		'-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost',
		'-addext', 'basicConstraints=critical,CA:TRUE', '-out', "$folder/request");
	# libcurl remembers for a day what stood in a file.
	$sandbox->{certificate} = "$folder/" . ++$nth . '.crt';
	system_or_bail('openssl', 'ca', '-batch', '-selfsign', '-create_serial', '-notext', '-config', "$folder/ca.conf",
		'-in', "$folder/request", '-keyfile', $key, '-startdate', $start, '-enddate', $end, '-out', $sandbox->ca_file);
	$sandbox->stop;
	$sandbox->start;
	return;
}

sub call
{
	return "SET ocean_enrich.ca_file = '" . $sandbox->ca_file . "'; SELECT " . enrich('anna@example.com');
}

sub is_refused
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $problem, $hint) = @_;
	fails($node, call(),
		qr/08001: could not connect to the API\nDETAIL:  Nothing was sent: $problem\.\nHINT:  $hint/,
		"$name: refused, and why");
	is($node->safe_psql('postgres', 'SELECT detail FROM ocean_enrich.call ORDER BY call_id DESC LIMIT 1'),
		"could not connect to the API: $problem", "$name: the ledger says it, too");
	return is($node->safe_psql('postgres', 'SELECT count(*) FROM ocean_enrich.call WHERE state <> $$failed$$'),
		0, "$name: and nothing is paid");
}

certify('20200101000000Z', '20200201000000Z');
is_refused('expired', 'the certificate of the server has expired',
	qr/Check the clock of this server and the certificates in "ocean_enrich\.ca_file"/);
certify('20900101000000Z', '20910101000000Z');
is_refused('not valid yet', 'the certificate of the server is not valid yet',
	qr/Check the clock of this server and the certificates in "ocean_enrich\.ca_file"/);
certify('20200101000000Z', '20900101000000Z');
is($node->safe_psql('postgres', call() . " ->> 'domain'"),
	'example.com', 'in its time it is good');

done_testing();
