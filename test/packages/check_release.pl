# check_release.pl
#	Checks META.json against the PGXN Meta Spec 1.0.0, https://pgxn.org/meta/spec.txt,
#	version numbers in other files against META.json, and the scripts of released
#	versions against their digests.  Prints all violations, and fails if there are any.
#	If PGXN's own PGXN::Meta::Validator is installed, it checks META.json, too; it is
#	on CPAN, but not in Debian.
#
#	perl test/packages/check_release.pl [FOLDER]	the tree, or an unpacked release

use strict;
use warnings FATAL => 'all';

use Digest::SHA;
use JSON::PP;

my $folder = shift // '.';

my $TERM = qr/\A[^\s\/\\[:cntrl:]]{2,}\z/;
my $NUMBER = qr/(?:0|[1-9][0-9]*)/;
my $VERSION = qr/\A$NUMBER\.$NUMBER\.$NUMBER(?:-?[A-Za-z][A-Za-z0-9-]*)?\z/;
my $RANGE_PART = qr/(?:(?:[<>]=?|[!=]=)\s*)?(?:0|$NUMBER\.$NUMBER\.$NUMBER(?:-?[A-Za-z][A-Za-z0-9-]*)?)/;
my $RANGE = qr/\A$RANGE_PART(?:\s*,\s*$RANGE_PART)*\z/;
my $URL = qr/\A[a-z][a-z0-9+.-]*:\S+\z/;
my $LICENSE = qr/\A(?:
	agpl_3|apache_1_1|apache_2_0|artistic_1|artistic_2|bsd|freebsd|gfdl_1_2|
	gfdl_1_3|gpl_1|gpl_2|gpl_3|lgpl_2_1|lgpl_3_0|mit|mozilla_1_0|mozilla_1_1|
	openssl|perl_5|postgresql|qpl_1_0|ssleay|sun|zlib|
	open_source|restricted|unrestricted|unknown)\z/x;

# The spec as data: a rule is the name of a kind, see check(), with its arguments.
# Keys that begin with "x_" are allowed everywhere.
my $TEXT = [ 'text', qr/\S/ ];
my $RELATIONS = [ 'each', $TERM, [ 'text', $RANGE ] ];
my $PHASE = [
	'map',
	optional => {
		requires => $RELATIONS,
		recommends => $RELATIONS,
		suggests => $RELATIONS,
		conflicts => $RELATIONS,
	}
];
my $SPEC = [
	'map',
	required => {
		name => [ 'text', $TERM ],
		version => [ 'text', $VERSION ],
		abstract => $TEXT,
		maintainer => [ 'some', $TEXT ],
		license => [ 'license' ],
		provides => [
			'each', $TERM,
			[
				'map',
				required => {
					file => [ 'file' ],
					version => [ 'text', $VERSION ],
				},
				optional => { abstract => $TEXT, docfile => [ 'file' ] },
			]
		],
		'meta-spec' => [
			'map',
			required => { version => [ 'text', qr/\A1\.0\.[0-9]+\z/ ] },
			optional => { url => [ 'text', $URL ] },
		],
	},
	optional => {
		description => $TEXT,
		generated_by => $TEXT,
		tags => [ 'some', [ 'text', qr/\A[^\/\\[:cntrl:]]{1,255}\z/ ] ],
		no_index => [
			'map',
			optional => { file => [ 'some', $TEXT ], directory => [ 'some', $TEXT ] }
		],
		prereqs => [
			'map',
			optional => {
				(map { ($_ => $PHASE) } qw(configure build test runtime develop))
			}
		],
		release_status => [ 'text', qr/\A(?:stable|testing|unstable)\z/ ],
		resources => [
			'map',
			optional => {
				homepage => [ 'text', $URL ],
				bugtracker => [
					'map',
					optional => { web => [ 'text', $URL ], mailto => $TEXT }
				],
				repository => [
					'map',
					optional => {
						url => [ 'text', $URL ],
						web => [ 'text', $URL ],
						type => [ 'text', qr/\A[a-z]+\z/ ],
					}
				],
			}
		],
	}
];

my $broken = 0;

sub say_broken
{
	my ($what) = @_;
	$broken = 1;
	print "$what\n";
}

sub complain
{
	my ($where, $what) = @_;
	say_broken("META.json$where $what");
}

# check VALUE, WHERE, RULE
sub check
{
	my ($value, $where, $rule) = @_;
	my ($kind, @arguments) = @$rule;
	my %kinds = (
		text => \&check_text,
		file => \&check_file,
		some => \&check_some,
		each => \&check_each,
		map => \&check_map,
		license => \&check_license);
	$kinds{$kind}->($value, $where, @arguments);
}

sub check_text
{
	my ($value, $where, $pattern) = @_;
	complain($where, 'is not what the spec allows')
	  if !defined $value || ref $value || $value !~ $pattern;
}

sub check_file
{
	my ($value, $where) = @_;
	check_text($value, $where, qr/\A[^\/\s]\S*\z/);
	complain($where, 'is not an existing file') if !-f "$folder/$value";
}

# One value, or a list of at least one.
sub check_some
{
	my ($value, $where, $rule) = @_;
	my @values = ref $value eq 'ARRAY' ? @$value : ($value);
	complain($where, 'is empty') if !@values;
	check($_, $where, $rule) for @values;
}

# A map with keys chosen by the author.
sub check_each
{
	my ($value, $where, $name, $rule) = @_;
	if (ref $value ne 'HASH' || !%$value)
	{
		complain($where, 'is not a map, or is empty');
		return;
	}
	for my $key (sort keys %$value)
	{
		complain("$where.$key", 'is not an allowed name') if $key !~ $name;
		check($value->{$key}, "$where.$key", $rule);
	}
}

# A map with keys of the spec.
sub check_map
{
	my ($value, $where, %known) = @_;
	if (ref $value ne 'HASH')
	{
		complain($where, 'is not a map');
		return;
	}
	my $required = $known{required} // {};
	my %rules = (%$required, %{ $known{optional} // {} });
	for my $key (sort keys %$required)
	{
		complain("$where.$key", 'is missing') if !exists $value->{$key};
	}
	for my $key (sort keys %$value)
	{
		if ($rules{$key})
		{
			check($value->{$key}, "$where.$key", $rules{$key});
		}
		elsif ($key !~ /\Ax_/i)
		{
			complain("$where.$key", 'is not in the spec');
		}
	}
}

# A license of the spec, several of them, or names chosen by the author with URLs.
sub check_license
{
	my ($value, $where) = @_;
	ref $value eq 'HASH'
	  ? check_each($value, $where, qr/\S/, [ 'text', $URL ])
	  : check_some($value, $where, [ 'text', $LICENSE ]);
}

sub slurp
{
	my ($name) = @_;
	local $/;
	open my $file, '<', "$folder/$name" or die "$name: $!\n";
	return <$file>;
}

# The text that the first group of PATTERN matches in a file.
sub find
{
	my ($name, $pattern) = @_;
	return slurp($name) =~ $pattern ? $1 : "nothing like $pattern";
}

sub compare
{
	my ($name, $found, $expected) = @_;
	say_broken("$name: $found instead of $expected") if $found ne $expected;
}

# The extension has the first two numbers of the release's three.
sub check_versions
{
	my ($meta) = @_;
	my $release = $meta->{version};
	my $extension = $release =~ s/\.[^.]*\z//r;
	my $script = "sql/ocean_enrich--$extension.sql";
	my $provided = $meta->{provides}{ocean_enrich};

	compare('META.json, provided version', $provided->{version}, $release);
	compare('META.json, provided file', $provided->{file}, $script);
	compare('ocean_enrich.control',
		find('ocean_enrich.control', qr/^default_version = '(.*)'$/m), $extension);
	compare('Makefile', find('Makefile', qr/^DATA = .*?(\Q$script\E)$/m), $script);
	compare('debian/changelog',
		find('debian/changelog', qr/\A\S+ \((\S+)\) /), $release);
	compare('src/shared/library_version.c',
		find('src/shared/library_version.c', qr/^#define LIBRARY_VERSION\s+"(.*)"$/m), $release);

	# The topmost heading: of a release, or of the next one.
	my $changes = find('CHANGELOG.md', qr/\A.*?^(## \[.*?)^###/ms);
	compare('CHANGELOG.md', $changes =~ /([0-9.]*[0-9])/ ? $1 : 'nothing', $extension);
	compare(
		'debian/changelog',
		find('debian/changelog', qr/\A\S+ \S+ (\S+);/) eq 'UNRELEASED' ? 'UNRELEASED' : 'released',
		$changes =~ /Unreleased/ ? 'UNRELEASED' : 'released');
}

# The install and update scripts of a released version never change, since databases
# were made by them.  The digests are in sql/, in the format of sha256sum.
sub check_released_scripts
{
	my @released = slurp('CHANGELOG.md') =~ /^## \[([0-9][0-9.]*)\] - /mg;
	my %digests = -e "$folder/sql/released.sha256"
	  ? map { (split)[ 1, 0 ] } split /\n/, slurp('sql/released.sha256') : ();

	for my $version (@released)
	{
		for my $script (glob "'$folder'/sql/ocean_enrich--{,*--}$version.sql")
		{
			my $name = $script =~ s{.*/}{}r;
			my $digest = Digest::SHA->new(256)->addfile($script)->hexdigest;
			compare("sql/$name", $digest, delete $digests{$name} // 'a line in sql/released.sha256');
		}
	}
	say_broken("sql/released.sha256: $_ is not of a released version") for sort keys %digests;
}

sub check_by_pgxn
{
	my ($meta) = @_;
	return if !eval { require PGXN::Meta::Validator };
	my $validator = PGXN::Meta::Validator->new($meta);
	complain(", according to PGXN's validator:", $_) for $validator->is_valid ? () : $validator->errors;
}

my $meta = eval { decode_json(slurp('META.json')) };
if ($meta)
{
	check($meta, '', $SPEC);
	check_versions($meta);
	check_released_scripts();
	check_by_pgxn($meta);
}
else
{
	complain('', "is not valid JSON: $@");
}
exit $broken;
