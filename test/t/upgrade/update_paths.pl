# update_paths.pl
#	Each version that there is an install script of, updated to the newest one, is
#	the same as that one freshly installed: every object, its definition, comment,
#	owner and rights, and what a dump carries.  And that a difference would be seen.

use strict;
use warnings FATAL => 'all';

use OceanTest qw(node);
use PostgreSQL::Test::Utils;
use StageTest qw(copy_of_stage extension_file change_file);
use Test::More;

plan skip_all => StageTest::missing() if StageTest::missing();

my ($stage, $settings) = copy_of_stage();
my $control = extension_file($stage, 'ocean_enrich.control');
my ($newest) = slurp_file($control) =~ /default_version = '(.*)'/;
my $folder = extension_file($stage, "ocean_enrich--$newest.sql") =~ s{/[^/]*$}{}r;
my @versions = grep { !/--/ } map { m{ocean_enrich--(.*)\.sql$} } glob "$folder/ocean_enrich--*.sql";

my $node;
{
	local $ENV{OCEAN_STAGE_SETTINGS} = $settings;
	$node = node(OceanTest::Sandbox->new);
}

# The extension in a new database, as the blocks of a dump that has its members one by
# one, without what differs from one installation to the next: numbers of objects and
# transactions, and the order in which tables were marked for dumps.
sub objects
{
	my ($database, @statements) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, join ';', @statements);
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
	run_log([ 'pg_dump', '--binary-upgrade', '--schema-only', '--file', $dump, '--dbname', $node->connstr($database) ])
	  or die "could not dump $database";
	my $text = slurp_file($dump);
	my $config = $node->safe_psql($database, q{
		SELECT c.relation::regclass, c.condition FROM pg_extension,
			unnest(extconfig, extcondition) AS c (relation, condition)
		WHERE extname = 'ocean_enrich' ORDER BY 1::text COLLATE "C"});
	$text =~ s/^\\(un)?restrict .*\n//mg;
	# A column that was added has a value for the rows that were there before.
	$text =~ s/^.*binary_upgrade_set_(next|missing)_.*\n//mg;
	$text =~ s/^(SELECT .*binary_upgrade_create_empty_extension\('ocean_enrich', 'public', false, '[^']*').*\n/$1\n/m;
	$text =~ s/(relfrozenxid = )'\d+'(, relminmxid = )'\d+'/$1$2/g;
	$text =~ s/^WHERE oid = '\d+';\n//mg;
	$text =~ s/^-- (?!Name: ).*\n//mg;
	$text =~ s/\n{2,}/\n/g;
	return [ (sort split /\n--\n(?=-- Name: )/, $text), $config ];
}

sub fresh
{
	my ($database, $version) = @_;
	return objects($database, "CREATE EXTENSION ocean_enrich VERSION '$version'");
}

sub updated
{
	my ($database, $from, $to) = @_;
	return objects($database, "CREATE EXTENSION ocean_enrich VERSION '$from'", "ALTER EXTENSION ocean_enrich UPDATE TO '$to'");
}

sub write_file
{
	my ($name, $text) = @_;
	open(my $file, '>', "$folder/$name") or die "could not create $name: $!";
	print $file $text;
	close $file or die "could not write $name: $!";
	return;
}

my $expected = fresh('newest', $newest);
cmp_ok(scalar(@$expected), '>', 300, 'there is something to compare');
my $count = 0;
foreach my $version (@versions)
{
	is_deeply(updated('updated' . ++$count, $version, $newest), $expected, "$version, updated to $newest, is $newest");
}

# A version to come, and what its update script may have forgotten

my $added = <<'END';
ALTER TABLE ocean_enrich.budget ADD COLUMN note text DEFAULT 'none' CHECK (note <> '');
COMMENT ON COLUMN ocean_enrich.budget.note IS 'for people';
CREATE INDEX budget_note_idx ON ocean_enrich.budget (note);
ALTER TYPE ocean_enrich.period ADD VALUE 'year';
CREATE TABLE ocean_enrich.later (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
SELECT pg_catalog.pg_extension_config_dump('ocean_enrich.later', 'WHERE name <> ''''');
ALTER TABLE ocean_enrich.later ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON ocean_enrich.later USING (name = current_user);
CREATE VIEW ocean_enrich.names WITH (security_barrier) AS SELECT name FROM ocean_enrich.later;
CREATE FUNCTION ocean_enrich.later(name text) RETURNS bigint LANGUAGE sql VOLATILE SECURITY DEFINER
	BEGIN ATOMIC SELECT id FROM ocean_enrich.later WHERE later.name = $1; END;
REVOKE EXECUTE ON FUNCTION ocean_enrich.later(text) FROM PUBLIC;
GRANT SELECT (name) ON ocean_enrich.later TO PUBLIC;
CREATE TRIGGER changed AFTER DELETE ON ocean_enrich.later FOR EACH STATEMENT EXECUTE FUNCTION ocean_enrich.budget_changed();
END
my $guard = "\\echo Use \"ALTER EXTENSION ocean_enrich UPDATE\" to load this file. \\quit\n";
write_file('ocean_enrich--99.0.sql', slurp_file("$folder/ocean_enrich--$newest.sql") . $added);

sub update_of
{
	my ($database, $script) = @_;
	write_file("ocean_enrich--$newest--99.0.sql", "$guard$script");
	return updated($database, $newest, '99.0');
}

sub differs
{
	my ($objects) = @_;
	return join("\0", @$objects) ne join("\0", @$expected);
}

$expected = fresh('later', '99.0');
is_deeply(update_of('complete', $added), $expected, 'a later version whose scripts agree');
my %forgotten = (
	'a comment' => qr/^COMMENT .*\n/m,
	'an index' => qr/^CREATE INDEX .*\n/m,
	'a default' => qr/ DEFAULT 'none'/,
	'a check' => qr/ CHECK \(note <> ''\)/,
	'a value' => qr/^ALTER TYPE .*\n/m,
	'that it belongs into a dump' => qr/^SELECT pg_catalog.pg_extension_config_dump.*\n/m,
	'what of it belongs into a dump' => qr/WHERE name <> ''''(?='\))/,
	'row level security' => qr/^.* ENABLE ROW .*\n/m,
	'a policy' => qr/^CREATE POLICY .*\n/m,
	'a view' => qr/^CREATE VIEW .*\n/m,
	'an option of a view' => qr/ WITH \(security_barrier\)/,
	'whose rights a function has' => qr/ SECURITY DEFINER/,
	'a function\'s text' => qr/ WHERE later.name = \$1/,
	'that it is not for everybody' => qr/^REVOKE .*\n/m,
	'a right' => qr/^GRANT .*\n/m,
	'a trigger' => qr/^CREATE TRIGGER .*\n/m);
my $number = 0;
foreach my $what (sort keys %forgotten)
{
	my $script = $added =~ s/$forgotten{$what}//r;
	ok($script ne $added && differs(update_of('forgotten' . ++$number, $script)), "forgotten and seen: $what");
}

done_testing();
