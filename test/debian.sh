# shellcheck shell=bash
#
# debian.sh
#	Packages of other Debian releases than the machine's own, by a private apt
#	configuration: with its own lists, cache and sources, but with the machine's
#	mirror.  Sourced by test/server-build.sh and test/versions.sh.

# Sets OCEAN_CACHE, the folder for files that take long to make.  It may be deleted at
# any time, and has to be to get newer versions.
choose_cache()
{
	if [[ -z ${OCEAN_CACHE:-} ]]; then
		OCEAN_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ocean_enrich
		if [[ $(id -u) == 0 ]]; then
			OCEAN_CACHE=/var/cache/ocean_enrich
		fi
	fi
	export OCEAN_CACHE
}

# The repository of the machine's own release.
debian_mirror()
{
	apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
		awk '$2 !~ /[-\/]/ { print $1; exit }'
}

# The lines of a sources.list: debian_sources TYPE RELEASE...
debian_sources()
{
	local type=$1 mirror release
	shift
	mirror=$(debian_mirror)
	if [[ -z $mirror ]]; then
		echo "the machine's apt configuration has no Debian repository" >&2
		return 1
	fi
	for release in "$@"; do
		echo "$type [signed-by=$DEBIAN_KEYRING] $mirror $release main"
	done
}

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# make_own_apt FOLDER TYPE RELEASE...: prepares FOLDER for own_apt().
make_own_apt()
{
	local folder=$1
	shift
	mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
	debian_sources "$@" > "$folder/sources.list" || return
	# The lists of a release may have expired.
	cat > "$folder/apt.conf" <<-END
		Dir::Etc::SourceList "$folder/sources.list";
		Dir::Etc::SourceParts "/dev/null";
		Dir::State::Lists "$folder/lists";
		Dir::Cache "$folder/cache";
		Acquire::Check-Valid-Until "false";
		APT::Update::Post-Invoke-Success "";
	END
	own_apt "$folder" apt-get update > "$folder/update.log" 2>&1 || {
		cat "$folder/update.log" >&2
		return 1
	}
}

# own_apt FOLDER COMMAND...: runs apt-get or apt-cache with FOLDER's configuration.
own_apt()
{
	local folder=$1
	shift
	APT_CONFIG=$folder/apt.conf "$@"
}
