# documents.pl
#	What the documents say is true: every SQL statement in them runs as printed,
#	prints what stands below it, or fails as it is said to; every setting has the
#	default they name; links lead somewhere; the reference leaves nothing out.
#
# In the documents' source, words behind ```sql that no reader sees say how a
# block is run: error=SQLSTATE, its last statement fails so; user=NAME;
# database=NAME, made if need be.  A block ```text output is what psql prints for
# the block before it.

use strict;
use warnings FATAL => 'all';

use IPC::Run ();
use OceanTest qw(node);
use PostgreSQL::Test::Utils;
use Test::More;

my $top = OceanTest::tree();
my @documents =
  ('README.md', 'doc/reference.md', 'doc/operations.md', 'doc/architecture.md',
	'doc/webhooks.md');
# Of these the links alone are looked at.
my @readmes = map { s{^\Q$top/\E}{}r } glob "$top/src/*/README.md";
my @others = (@readmes, 'doc/citus.md', 'doc/contract.md', 'doc/testing.md', 'test/README.md',
	'test/bench/README.md', 'test/sandbox/README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md');
# Where the documents' blocks run unless they say otherwise: after quickstart.sh.
my $home = 'sandbox';
my $marker = '=== block';

# The fenced blocks of a Markdown file: {line, words, text} each.
sub blocks
{
	my ($document) = @_;
	my (@blocks, $block);
	my $number = 0;

	foreach my $line (split /\n/, slurp_file("$top/$document"))
	{
		$number++;
		if ($block && $line =~ /^```$/)
		{
			push @blocks, $block;
			undef $block;
		}
		elsif ($block)
		{
			$block->{text} .= "$line\n";
		}
		elsif ($line =~ /^```(.*)/)
		{
			$block = { line => $number, words => [ split ' ', $1 ], text => '' };
		}
	}
	die "$document: a block has no end" if $block;
	return @blocks;
}

# The SQL blocks of a document with what is expected of each.
sub examples
{
	my ($document) = @_;
	my ($before, @examples);

	foreach my $block (blocks($document))
	{
		my ($language, @words) = @{ $block->{words} };
		if (($language // '') eq 'sql')
		{
			my %options = map { split /=/, $_, 2 } @words;
			die "$document, line $block->{line}: SQL without an end"
			  unless $block->{text} =~ /;\s*\z/;
			push @examples,
			  $before = {
				name => "$document, line $block->{line}",
				sql => $block->{text},
				error => $options{error},
				user => $options{user} // 'postgres',
				database => $options{database} // $home,
			  };
		}
		elsif ("@{ $block->{words} }" eq 'text output')
		{
			$before->{output} = $block->{text};
		}
	}
	return @examples;
}

# One script for psql, so that a SET of one block holds for those that follow it.
sub script
{
	my @examples = @_;
	my ($script, $place) = ("\\pset pager off\n", '');

	foreach my $i (0 .. $#examples)
	{
		my $new_place = "$examples[$i]{database} $examples[$i]{user}";
		$script .= "\\connect $new_place\n" if $new_place ne $place;
		$place = $new_place;
		$script .= "\\echo $marker $i\n$examples[$i]{sql}";
		$script .= "\\echo $marker end :SQLSTATE\n";
	}
	return $script;
}

# What psql printed, errors included, and the last SQLSTATE of each block.
sub run_examples
{
	my ($node, @examples) = @_;
	my $script = script(@examples);
	my $printed = '';
	my @command = (
		$node->installed_command('psql'), '--no-psqlrc', '--dbname',
		$node->connstr($home));
	my @results;

	IPC::Run::run(\@command, '<', \$script, '>&', \$printed)
	  or die "psql failed: $printed";
	push @results, { printed => $1, sqlstate => $2 }
	  while $printed =~ /^\Q$marker\E \d+\n(.*?)^\Q$marker\E end (.*?)\n/msg;
	die "psql did not run every block: $printed" if @results != @examples;
	return @results;
}

# Spaces at the ends of psql's lines are not for documents.
sub trimmed
{
	my ($text) = @_;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/\s*\z/\n/;
	return $text;
}

sub check_example
{
	my ($example, $result) = @_;
	my $name = $example->{name};
	my $printed = $result->{printed};

	if (defined $example->{error})
	{
		is($result->{sqlstate}, $example->{error}, "$name fails as expected")
		  or diag($printed);
	}
	else
	{
		unlike($printed, qr/^(ERROR|FATAL|psql|\\)\b/m, "$name runs");
	}
	is(trimmed($printed), trimmed($example->{output}), "$name prints that")
	  if defined $example->{output};
	return;
}

# A heading's name in the documents' links, as Git hosts make it.
sub anchor
{
	my ($heading) = @_;
	$heading = lc $heading =~ s/^#+ //r =~ s/[^\w \-]//gr;
	return $heading =~ tr/ /-/r;
}

# Links between the documents lead somewhere.
sub check_links
{
	my ($document) = @_;
	my $text = slurp_file("$top/$document");
	my $folder = $document =~ m{^(.*/)} ? $1 : '';
	my @dead;

	foreach my $link ($text =~ /\]\((?!https?:)([^)]+)\)/g)
	{
		my ($file, $fragment) = $link =~ /^([^#]*)#?(.*)$/;
		my $path = "$top/" . ($file eq '' ? $document : "$folder$file");
		my %anchors;

		if (-e $path && $fragment ne '')
		{
			foreach my $name (map { anchor($_) } slurp_file($path) =~ /^(#+ .*)$/mg)
			{
				my $count = $anchors{$name}++;
				$anchors{"$name-$count"} = 1 if $count;
			}
		}
		push @dead, $link
		  unless -e $path && ($fragment eq '' || $anchors{$fragment});
	}
	is("@dead", '', "$document: its links lead somewhere");
	return;
}

# The files that a document names are there.
sub check_files
{
	my ($document) = @_;
	my @lost = grep { !/NAME/ && !-e "$top/$_" }
	  slurp_file("$top/$document") =~ m{`((?:src|test|doc)/[\w./-]+)`}g;
	is("@lost", '', "$document: the files that it names are there");
	return;
}

# The messages that a document quotes are those of the source: code of at least four
# words without SQL in it.  In the place of N, ... or a function's name anything may be.
sub check_messages
{
	my ($document) = @_;
	my $source = join '', map { slurp_file($_) } glob "$top/src/*/*.c";
	my $text = slurp_file("$top/$document") =~ s/^```.*?^```$//msgr;
	my (@quoted, @lost);

	$source =~ s/"\s+"//g;
	@quoted = grep { /^(?:[\w.,()]+\s){3,}[\w.,()]+$/ && !/\b(?!N\b)[A-Z]+\b/ }
	  $text =~ /`([^`]+)`/g;
	s/\s+/ /g foreach @quoted;
	foreach my $message (@quoted)
	{
		push @lost, grep { /\w/ && index($source, $_) < 0 }
		  split /\bN\b|\.\.\.|[\w.]+\(\)/, $message;
	}
	cmp_ok(scalar @quoted, '>', 0, "$document quotes messages");
	is("@lost", '', "$document: its messages are the source's");
	return;
}

# The rows of a document's tables: a hash of the first cell, without its
# backquotes, to the second.
sub table_rows
{
	my ($document) = @_;

	return slurp_file("$top/$document") =~ /^\| `([^`]+)` *\| *(.*?) *\|/mg;
}

# Each setting stands in a table with its default, as SHOW prints it.
sub check_settings
{
	my ($node, $document) = @_;
	my %rows = table_rows($document);
	my $settings = $node->safe_psql(
		$home, q{
		LOAD 'ocean_enrich';
		SELECT name, CASE WHEN context = 'sighup' THEN current_setting(name)
			ELSE set_config(name, boot_val, false) END
		FROM pg_settings WHERE name LIKE 'ocean_enrich.%' ORDER BY name});

	foreach my $line (split /\n/, $settings)
	{
		my ($name, $default) = split /\|/, $line;
		my $said = $rows{$name} // 'nothing';
		is($said, length $default ? "`$default`" : 'empty', "$document: $name");
	}
	return;
}

# Everything of the extension that can be named has a heading, and every column
# is named below its relation's.
sub check_objects
{
	my ($node) = @_;
	my %sections;
	my ($document, $heading) = (slurp_file("$top/doc/reference.md"), '');
	my $objects = $node->safe_psql(
		$home, q{
		WITH member AS (
			SELECT classid, objid FROM pg_depend
			WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
				AND refobjid = (SELECT oid FROM pg_extension
					WHERE extname = 'ocean_enrich')
		), relation AS (
			SELECT c.oid, c.relname AS name, c.relnamespace AS namespace
			FROM pg_class AS c
			WHERE c.relkind IN ('r', 'v') AND c.oid IN (SELECT objid FROM member)
			UNION ALL
			SELECT t.typrelid, t.typname, t.typnamespace
			FROM pg_type AS t
			WHERE t.typtype IN ('c', 'd', 'e') AND t.oid IN (SELECT objid FROM member)
		), object AS (
			SELECT r.name, r.namespace,
				ARRAY(SELECT attname FROM pg_attribute AS a
					WHERE a.attrelid = r.oid AND attnum > 0
					ORDER BY attnum) AS columns
			FROM relation AS r
			UNION ALL
			SELECT p.proname || '()', p.pronamespace, coalesce(p.proargnames, '{}')
			FROM pg_proc AS p WHERE p.oid IN (SELECT objid FROM member)
		)
		SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || o.name,
			array_to_string(o.columns, ' ')
		FROM object AS o JOIN pg_namespace AS n ON n.oid = o.namespace
		ORDER BY 1});

	foreach my $line (split /\n/, $document)
	{
		$heading = $line if $line =~ /^#/;
		$sections{$heading} .= "$line\n";
	}
	foreach my $line (split /\n/, $objects)
	{
		my ($name, $columns) = split /\|/, $line, 2;
		my ($found) = grep { index($_, "`$name`") >= 0 } keys %sections;
		ok(defined $found, "doc/reference.md has $name") or next;
		my @missing =
		  grep { $sections{$found} !~ /\b\Q$_\E\b/ } split ' ', $columns;
		is("@missing", '', "doc/reference.md has all of $name");
	}
	return;
}

# The SQLSTATEs that a header defines, by the names of their macros.
sub defined_sqlstates
{
	my ($header) = @_;
	my %sqlstates =
	  slurp_file($header) =~ /^#define (ERRCODE_\w+)\s+MAKE_SQLSTATE\(([^)]*)\)/mg;

	tr/',//d foreach values %sqlstates;
	return %sqlstates;
}

# Each SQLSTATE that the C raises, or records as that of an error, has its row:
# whatever it names and does not merely compare with.
sub check_sqlstates
{
	my ($node) = @_;
	my %rows = table_rows('doc/reference.md');
	my $headers = $node->config_data('--includedir-server');
	my %sqlstates = (
		defined_sqlstates("$headers/utils/errcodes.h"),
		defined_sqlstates("$top/src/base/errors.h"));
	my %named;

	foreach my $source (glob "$top/src/*.c $top/src/*/*.c")
	{
		$named{$_} = 1
		  foreach slurp_file($source) =~ /(?<![=!]= )\b(ERRCODE_\w+)/g;
	}
	delete $named{ERRCODE_SUCCESSFUL_COMPLETION};
	cmp_ok(scalar keys %named, '>', 0, 'the C raises SQLSTATEs');
	foreach my $name (sort keys %named)
	{
		my $sqlstate = $sqlstates{$name} // 'that is defined nowhere';
		ok(exists $rows{$sqlstate}, "doc/reference.md has SQLSTATE $sqlstate, $name");
	}
	return;
}

my $sandbox = OceanTest::Sandbox->new;
my $node = node($sandbox);
my @examples = map { examples($_) } @documents;

$node->safe_psql('postgres', "CREATE DATABASE $home");
$node->safe_psql('postgres',
	"ALTER DATABASE $home SET session_preload_libraries = 'ocean_enrich'");
$node->command_ok(
	[
		'psql', '--no-psqlrc', '--dbname', $node->connstr($home),
		'--file', "$top/doc/quickstart.sql"
	],
	'doc/quickstart.sql runs');
check_links($_) foreach @documents, @others;
check_files($_) foreach ('CONTRIBUTING.md', 'doc/architecture.md', @readmes);
check_messages('doc/operations.md');
check_settings($node, $_) foreach ('README.md', 'doc/reference.md');
check_objects($node);
check_sqlstates($node);

my %databases = map { $_->{database} => 1 } @examples;
$node->safe_psql('postgres', "CREATE DATABASE $_")
  foreach grep { $_ ne $home } sort keys %databases;
my @results = run_examples($node, @examples);
check_example($examples[$_], $results[$_]) foreach 0 .. $#examples;

done_testing();
