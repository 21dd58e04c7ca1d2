#!/usr/bin/perl
# Process 1 of a node of the lab: what init, the service manager and the watchdog are on a real host.
#   init.pl NODE_FOLDER NODE_NAME
# It runs as the first process of fresh mount, uts, ipc and pid namespaces. It mounts the node's own folders, starts
# libvirtd, and the agent if the node has an agent.argv; reaps what is orphaned; restarts nothing by itself.
#   SIGUSR1  starts the agent, SIGUSR2 libvirtd, unless it runs
#   SIGKILL  (from outside) is the node's power switch: the kernel ends all processes of the namespace with it
# And it is the node's guardian (HA-3): it acts where agent and keeper no longer can, because it is not in their
# process tree and nothing that stops or kills them reaches it.
# perl-base is essential on Debian; only what it holds is used, and nothing here forks in the loop.
use strict;
use warnings;

my ($dir, $name) = @ARGV;
my $POLL_S = 0.05;
my $feed = "$dir/data/run/guardian";
my (%pid_of, $armed, $wanted_agent, $wanted_libvirtd);

open(my $log, '>>', "$dir/log/init.log") or die "init.log: $!";
select((select($log), $| = 1)[0]);

sub now_ms {
    # /proc/uptime runs on CLOCK_BOOTTIME, in hundredths of a second.
    open(my $fh, '<', '/proc/uptime') or return undef;
    my $line = <$fh>;
    close $fh;
    return $line =~ /^(\d+)\.(\d\d)/ ? $1 * 1000 + $2 * 10 : undef;
}

sub note {
    my @t = gmtime;
    printf $log "%04d-%02d-%02dT%02d:%02d:%02dZ up=%s %s\n", $t[5] + 1900, $t[4] + 1, @t[3, 2, 1, 0], now_ms() // '?', $_[0];
}

sub spew {
    my ($path, $text) = @_;
    open(my $fh, '>', "$path.new") or die "$path: $!";
    print $fh $text;
    close $fh or die "$path: $!";
    rename("$path.new", $path) or die "$path: $!";
}

sub slurp {
    open(my $fh, '<', $_[0]) or return undef;
    local $/;
    my $text = <$fh>;
    close $fh;
    return $text;
}

sub must {
    system(@_) == 0 or do { note("@_: failed"); die "@_: failed\n" };
}

# --- power on ---
must('mount', '-t', 'proc', 'proc', '/proc');
must('mount', '-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', '/run');
mkdir $_ for '/run/libvirt', '/run/lock';
must('mount', '--bind', "$dir/host/$_->[0]", $_->[1])
    for ['etc', '/etc/libvirt'], ['lib', '/var/lib/libvirt'], ['log', '/var/log/libvirt'], ['cache', '/var/cache/libvirt'];
# What would reset this machine, and not the node, is out of the node's reach.
must('mount', '--bind', '/dev/null', $_) for grep { -e } '/proc/sysrq-trigger', glob('/dev/watchdog*');
if (open(my $fh, '>', '/proc/sys/kernel/hostname')) { print $fh $name; close $fh }

# One kernel runs all nodes, so its boot id alone would be the same before and after a reset of a node.
my $boot = slurp('/proc/sys/kernel/random/boot_id') // '';
chomp $boot;
my $stat = slurp('/proc/1/stat') // '';
$stat =~ s/^.*\) //s;                       # the name in brackets may hold anything; field 3 is first now
$boot .= ':' . (split ' ', $stat)[19];      # field 22, start time

$SIG{USR1} = sub { $wanted_agent = 1 };
$SIG{USR2} = sub { $wanted_libvirtd = 1 };
$SIG{$_} = 'IGNORE' for qw(HUP INT TERM PIPE);
setpriority(0, 0, -20);                     # the guardian is punctual on a busy machine

sub spawn {
    my ($what, $logfile, $env, @argv) = @_;
    if ($pid_of{$what}) { note("$what runs already, pid $pid_of{$what}"); return }
    my $pid = fork();
    if (!defined $pid) { note("$what: cannot fork: $!"); return }
    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(USR1 USR2 HUP INT TERM PIPE);
        setpriority(0, 0, 0);
        setpgrp(0, 0);
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>>', $logfile);
        open(STDERR, '>&', \*STDOUT);
        chdir '/';
        $ENV{$_} = $env->{$_} for keys %$env;
        exec { $argv[0] } @argv or do { print STDERR "$argv[0]: $!\n"; exit 127 };
    }
    $pid_of{$what} = $pid;
    note("$what started, pid $pid");
}

# Killed, but not all of its threads have ended yet: it can be reaped, and started again, only when they have.
sub is_ending {
    my $pid = $pid_of{$_[0]} or return 0;
    return (slurp("/proc/$pid/stat") // '') =~ /.*\) [ZX]/s;
}

sub start_libvirtd {
    unlink '/run/libvirtd.pid';
    spawn('libvirtd', "$dir/log/libvirtd.out", {}, '/usr/sbin/libvirtd', '-f', '/etc/libvirt/libvirtd.conf', '-p', '/run/libvirtd.pid');
}

# agent.argv: NAME=VALUE lines for the environment, an empty line, one argument on each further line.
sub start_agent {
    my $text = slurp("$dir/agent.argv");
    if (!defined $text) { note("agent: no agent.argv, so none is started"); return }
    my ($env_text, $argv_text) = split /^\n/m, $text, 2;
    my %env = map { /^([^=]+)=(.*)$/ ? ($1, $2) : () } split /\n/, $env_text;
    spawn('agent', "$dir/log/agent.log", \%env, split /\n/, $argv_text);
}

note("power on, boot $boot");
start_libvirtd();
start_agent() if -e "$dir/agent.argv";
spew("$dir/boot", "$boot\n");

# --- guardian ---
sub guard {
    my $text = slurp($feed);
    # The keeper writes over the record in place: only what reads the same twice was read whole.
    if (defined $text && $text eq (slurp($feed) // '')) {
        if ($text =~ /^(\S+) (\d+)\s*$/) {
            # Of another boot: left by a run that is over, it guards nothing now.
            if ($1 eq $boot) {
                note("guardian armed, deadline $2") if !defined $armed;
                $armed = $2;
            }
        } elsif ($text =~ /^(?:(\S+) )?disarmed\s*$/) {
            if (defined $armed && (!defined $1 || $1 eq $boot)) { note("guardian disarmed"); $armed = undef }
        }
        # Anything else is half a write: the deadline known before stands.
    }
    return if !defined $armed;
    my $now = now_ms();
    return if defined $now && $now < $armed;
    # Kill first, write afterwards: a disk that hangs must not delay it.
    kill 'KILL', -1;
    note(sprintf 'guardian: the feed ran out %d ms ago (deadline %d): node reset', ($now // 0) - $armed, $armed);
    spew("$dir/power", "off: the guardian reset the node, the feed had run out\n");
    exit 1;
}

while (1) {
    select(undef, undef, undef, $POLL_S);
    guard();
    while ((my $pid = waitpid(-1, 1)) > 0) {
        for my $what (grep { $pid_of{$_} == $pid } keys %pid_of) {
            note(sprintf '%s ended, pid %d, %s', $what, $pid, ($? & 127) ? 'signal ' . ($? & 127) : 'exit code ' . ($? >> 8));
            delete $pid_of{$what};
        }
    }
    # After the reaping: what was just killed must not be taken for running.
    if ($wanted_libvirtd && !is_ending('libvirtd')) { $wanted_libvirtd = 0; start_libvirtd() }
    if ($wanted_agent && !is_ending('agent'))       { $wanted_agent = 0;    start_agent() }
}
