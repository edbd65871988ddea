# StageTest.pm
#	What the tests of upgrades share: copies of the folders that the extension is
#	staged in, to be changed, and libraries that are built from changed sources.

use strict;
use warnings FATAL => 'all';

package StageTest;

use Exporter 'import';
use OceanTest ();
use PostgreSQL::Test::Utils;

our @EXPORT_OK = qw(missing library_name copy_of_stage extension_file settings_of
  replace_file change_file build_library library_version);

my $settings = $ENV{OCEAN_STAGE_SETTINGS} // '';
my ($library_folder) = $settings =~ /dynamic_library_path = '([^']*):\$libdir'/;
my ($stage) = $settings =~ /extension_destdir = '([^']*)'/;
($stage) = map { s{/usr/.*}{}r } $settings =~ /extension_control_path = '([^':]*)/ unless defined $stage;
my $library = defined $library_folder ? (glob "$library_folder/ocean_enrich.{so,dylib}")[0] : undef;
my $builds = 0;

# Why these tests cannot run; undef: they can.
sub missing
{
	return 'the extension is not staged' unless defined $library;
	return 'the stage is laid out in another way'
	  unless defined $stage && index($library_folder, $stage) == 0 && -e $library;
	return;
}

# In STAGE, or in the stage of all tests.
sub library_name
{
	my ($copy) = @_;
	return $library =~ s/\Q$stage\E/$copy \/\/ $stage/er;
}

# A copy of the stage: its folder, and the settings for it.
sub copy_of_stage
{
	my $copy = PostgreSQL::Test::Utils::tempdir() . '/stage';
	system_or_bail('cp', '-R', $stage, $copy);
	return ($copy, $settings =~ s/\Q$stage\E/$copy/gr);
}

# The settings for a copy, by which a session finds it: name => value
sub settings_of
{
	my ($copy) = @_;
	my %settings = (dynamic_library_path => ($library_folder =~ s/\Q$stage\E/$copy/r) . ':$libdir');
	$settings{extension_destdir} = $copy if $settings =~ /extension_destdir/;
	return %settings;
}

sub extension_file
{
	my ($copy, $file) = @_;
	my ($found) = split /\n/, `find '$copy' -name '$file'`;
	return $found // die "no $file below $copy";
}

# As an installation does it: who has mapped the old file keeps it.
sub replace_file
{
	my ($from, $to) = @_;
	system_or_bail('cp', $from, "$to.new");
	rename "$to.new", $to or die "could not rename $to.new: $!";
	return;
}

# change_file(FILE, PATTERN => REPLACEMENT, ...): the replacement may use $1.
sub change_file
{
	my ($name, @changes) = @_;
	my $text = slurp_file($name);
	while (my ($pattern, $replacement) = splice @changes, 0, 2)
	{
		$text =~ s/$pattern/defined $1 ? "$1$replacement" : $replacement/e
		  or die "nothing like $pattern in $name";
	}
	open(my $file, '>', $name) or die "could not write $name: $!";
	print $file $text;
	close $file or die "could not write $name: $!";
	return;
}

sub library_version
{
	return slurp_file(OceanTest::tree() . "/src/shared/library_version.c") =~ /LIBRARY_VERSION\s+"(.*)"/
	  ? $1 : die 'the library has no version';
}

# build_library(FILE => [CHANGES as change_file() takes them], ...): the file of a
# library whose sources differ, built as the one that is tested.
sub build_library
{
	my (%changes) = @_;
	my $tree = PostgreSQL::Test::Utils::tempdir() . '/tree' . ++$builds;
	mkdir $tree or die "could not create $tree: $!";
	# With the times, so that only what was changed is compiled.
	system_or_bail('cp', '-Rp', map({ OceanTest::tree() . "/$_" } qw(Makefile ocean_enrich.control sql src)), $tree);
	change_file("$tree/$_", @{ $changes{$_} }) foreach keys %changes;
	system_or_bail('make', '--silent', '-C', $tree, 'all');
	return (glob "$tree/ocean_enrich.{so,dylib}")[0] // die 'no library was built';
}

1;
