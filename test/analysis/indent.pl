# indent.pl
#	Formats one file with pg_bsd_indent, with the adjustments of PostgreSQL's pgindent,
#	and with others for code that PostgreSQL does not have: strings that are not ASCII,
#	compound literals, TAILQ_ENTRY(), and variables called "text".
#
#	perl test/analysis/indent.pl PG-BSD-INDENT-COMMAND... < FILE > RESULT

use strict;
use warnings FATAL => 'all';

use IPC::Open2;

my @bytes;
my @literals;

# Replaces code that pg_bsd_indent would break by harmless placeholders.
sub protect
{
	my ($source) = @_;
	$source =~ s/([\x80-\xff])/push @bytes, $1; "\x7f"/ge;
	$source =~ s/(\(\w+\) )(\{[^{}\n]*\})/push @literals, $2; $1 . "literal_$#literals"/ge;
	$source =~ s/\bTAILQ_ENTRY\((\w+)\)/struct TAILQ_ENTRY_$1/g;
	$source =~ s!/\* +---!/*---X_X!g;
	return $source;
}

sub restore
{
	my ($source) = @_;
	$source =~ s!/\*---X_X!/* ---!g;
	$source =~ s/\bstruct TAILQ_ENTRY_(\w+)/TAILQ_ENTRY($1)/g;
	$source =~ s/\bliteral_([0-9]+)\b/$literals[$1]/g;
	$source =~ s/\x7f/shift @bytes/ge;
	return $source;
}

# pg_bsd_indent moves the last line of a braced list out too early.
sub move_back
{
	my ($line) = @_;
	(my $code = $line) =~ s/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/0/g;
	my $ends = ($code =~ tr/}//) - ($code =~ tr/{//);
	return $ends > 0 && $code =~ /^\t+[^\t}].*\}[,;]?$/ ? "\t$line" : $line;
}

# The first two rules are pgindent's.
sub polish
{
	my ($source) = @_;
	$source =~ s!\*/(/\*.*\*/)$!*/\t$1!gm;
	$source =~ s!^([A-Za-z_]\S*)[ \t]+\*$!$1 *!gm;
	$source =~ s/,\.(?=[\w.]+ = )/, ./g;
	$source =~ s/\(text \* (?=\w+[,)])/(text */g;
	$source =~ s/^(.+)$/move_back($1)/gem;
	return $source;
}

# The result of pg_bsd_indent, which reports problems on stderr.
sub run_indent
{
	my ($source, @command) = @_;
	my $pid = open2(my $from, my $to, @command);
	# It reads all of its input before it writes.
	print {$to} $source;
	close $to;
	local $/;
	my $result = <$from>;
	waitpid $pid, 0;
	die "$command[0] failed: $?\n" if $?;
	return $result;
}

binmode STDIN;
binmode STDOUT;
local $/;
print restore(polish(run_indent(protect(scalar <STDIN>), @ARGV)));
