#!/usr/bin/env bash
#
# run.sh
#	An independent program, Prism, checks our requests and the sandbox's answers
#	against the vendor's OpenAPI document: as a mock server that the extension calls,
#	as a proxy between the extension and the sandbox, and as the receiver of the
#	sandbox's webhooks.
#
#	test/contract/run.sh OPENAPI-FILE
#
# The document is the vendor's and not part of this tree; without it nothing is
# tested.  doc/contract.md lists where we differ from it.  Prism is installed by npm
# into $OCEAN_CACHE (/var/cache/ocean_enrich).  All servers listen on the loopback
# interface and end with this program; their logs are in build/contract.  The last
# line is the sum: "N passed, N failed".

set -euo pipefail
DOCUMENT=$(realpath -m "${1:-/nowhere}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=test/private-server.sh
. test/private-server.sh
# shellcheck source=test/packages.sh
. test/packages.sh
# shellcheck source=test/debian.sh
. test/debian.sh
# shellcheck source=test/counting.sh
. test/counting.sh

PRISM_VERSION=5.14.2
MAX_SECONDS=600
COPIES=20
LOGS=$PWD/build/contract
PRISMS=()

install_prism()
{
	local folder=$OCEAN_CACHE/prism-$PRISM_VERSION
	PRISM=$folder/node_modules/.bin/prism
	[[ -x $PRISM ]] || {
		echo "installing Prism $PRISM_VERSION into $folder"
		mkdir -p "$folder"
		timeout "$MAX_SECONDS" npm install --prefix "$folder" --cache "$OCEAN_CACHE/npm" \
			--ignore-scripts --no-audit --no-fund --silent \
			"@stoplight/prism-cli@$PRISM_VERSION"
	}
}

free_port()
{
	perl -MIO::Socket::INET -e '
		for (1 .. 100)
		{
			my $port = 20000 + int rand 10000;
			if (IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1))
			{
				print $port;
				last;
			}
		}'
}

# start_prism NAME COMMAND...: sets URL.  Violations become errors: an invalid request
# gets 422 from the mock server and the proxy, an invalid answer 500 from the proxy.
start_prism()
{
	local name=$1 port command=$2
	shift 2
	port=$(free_port)
	URL=http://127.0.0.1:$port
	timeout "$MAX_SECONDS" "$PRISM" "$command" --host 127.0.0.1 --port "$port" \
		--errors "$@" > "$LOGS/$name.log" 2>&1 < /dev/null &
	PRISMS+=($!)
	# It prints that it is listening before it does.
	until grep -q 'Prism is listening' "$LOGS/$name.log" &&
		(: > "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do
		kill -0 $! 2> /dev/null || {
			cat "$LOGS/$name.log" >&2
			return 1
		}
		sleep 0.1
	done
}

start_server_and_sandbox()
{
	make --silent --no-print-directory PG_CONFIG="$PG_CONFIG" all sandbox
	make_server_folder "$FOLDER"
	stage_extension "$FOLDER/stage"
	install -m 0755 test/sandbox/build/ocean-sandbox "$FOLDER/stage/"
	printf '%s\n' \
		"fsync = off" \
		"session_preload_libraries = 'ocean_enrich'" \
		"ocean_enrich.api_token = 'sandbox-token'" \
		"ocean_enrich.rate_limit = 0" \
		"ocean_enrich.daily_limit = 0" \
		"ocean_enrich.reuse_for = 0" > "$FOLDER/server.conf"
	make_server "$FOLDER" --no-sync
	start_server "$FOLDER"
	psql_here --command 'CREATE EXTENSION ocean_enrich'
	start_sandbox "$FOLDER/stage/ocean-sandbox" "$FOLDER" 0
	SANDBOX=http://127.0.0.1:$(cat "$FOLDER/sandbox.port")
}

psql_here()
{
	PGDATABASE=postgres server_psql "$FOLDER" --no-psqlrc --quiet --tuples-only \
		--no-align --set=ON_ERROR_STOP=1 "$@"
}

# enrich URL REQUEST [SETTING...]: prints the status and error message that the
# extension returns.
enrich()
{
	local request=$2
	set -- "api_url=$1" "${@:3}"
	PGOPTIONS=$(printf -- '-c ocean_enrich.%s ' "$@") psql_here --set=request="$request" 2>&1 <<-'END' || true
			SELECT concat_ws(' ', status, error_message)
			FROM ocean_try_enrich_person(:'request');
		END
}

# balance URL [SETTING...]: prints the keys of the balance, or the error.
balance()
{
	set -- "api_url=$1" "${@:2}"
	PGOPTIONS=$(printf -- '-c ocean_enrich.%s ' "$@") psql_here --set=VERBOSITY=verbose 2>&1 <<-'END' || true
			SELECT string_agg(key, ' ' ORDER BY key COLLATE "C")
			FROM jsonb_object_keys(ocean_enrich.balance()) AS key;
		END
}

BALANCE_KEYS='credits dailyLimitRateLeft dailyLimitRateSecondsToReset emailCredits phoneCredits previewCredits'

# curl_status URL [ARGUMENTS]
curl_status()
{
	curl --silent --output /dev/null --write-out '%{http_code}' --max-time 30 "$@"
}

# post URL BODY [ARGUMENTS]: prints the status.
post()
{
	local url=$1 body=$2
	shift 2
	curl_status "$url/v2/enrich/person" --header 'Content-Type: application/json' \
		--data "$body" "$@"
}

configure_sandbox()
{
	curl --silent --fail --output /dev/null --data "$1" "$SANDBOX/sandbox/config"
}

# The document's example of an answer is the one of the vendor's page.
test_mock()
{
	local request
	start_prism mock mock "$DOCUMENT_31"
	while read -r request; do
		is "mock server: $request" "$(enrich "$URL" "$request")" 200
	done < "$FOLDER/requests"
	is 'mock server: the token in the query' \
		"$(enrich "$URL" '{"person": {"name": "Alva Nordal"}}' token_in=query)" 200
	is 'mock server: the person as columns' "$(
		PGOPTIONS="-c ocean_enrich.api_url=$URL" psql_here --command "
			SELECT concat_ws(', ', p.name, p.job_title, p.domain, cardinality(p.skills))
			FROM ocean_person(ocean_enrich_person('{\"person\": {\"id\": \"1\"}}')) AS p")" \
		'John Doe, Professeur, google.com, 3'
	is 'mock server: the balance' "$(balance "$URL")" "$BALANCE_KEYS"
	is 'mock server: the balance, with the token in the query' \
		"$(balance "$URL" token_in=query)" "$BALANCE_KEYS"
	is 'it checks: a key that is not in the document' \
		"$(enrich "$URL" '{"person": {"shoeSize": "43"}}' unknown_keys=pass | head -c 3)" 422
}

# Any answer that the document allows, also as columns and rows.  Prism gives the same
# answer to all calls until it has another seed.
test_any_answer()
{
	local seed
	for seed in {1..5}; do
		start_prism "dynamic-$seed" mock "$DOCUMENT_31" --dynamic --seed "$seed"
		is "any answer: number $seed, at once in $COPIES calls" "$(
			PGOPTIONS="-c ocean_enrich.api_url=$URL" psql_here 2>&1 <<-END || true
				SELECT string_agg(DISTINCT concat_ws(' ', r.status, r.error_message), ', '),
					count((ocean_person(r.answer)).id),
					count((SELECT count(*) FROM ocean_person_experiences(r.answer)))
				FROM generate_series(1, $COPIES) AS i,
					ocean_try_enrich_person(
						jsonb_build_object('person', jsonb_build_object('id', i::text))) AS r;
			END
		)" "200|$COPIES|$COPIES"
		is "any answer: number $seed, the balance" "$(balance "$URL")" "$BALANCE_KEYS"
		kill "${PRISMS[-1]}"
	done
}

# The sandbox gives these answers to a request with this name; see its README.
ANSWERS='
200 sb-nulls
200 sb-newkeys
200 sb-unicode
200 sb-latin1
201 Data gathering process has started. Please try again later.	sb-gathering-600000
400 Empty `person` body	sb-status-400
402 Insufficient credits	sb-status-402
403 Current API token is not registered in our database	sb-status-403
404 No matching record found	sb-unknown
'

test_proxy()
{
	local request name expected
	configure_sandbox '{"credits_used": true}'
	start_prism proxy proxy "$DOCUMENT_31" "$SANDBOX"
	while read -r request; do
		is "proxy: $request" "$(enrich "$URL" "$request")" 200
	done < "$FOLDER/requests"
	is 'proxy: the token in the query' \
		"$(enrich "$URL" '{"person": {"name": "Alva Nordal"}}' token_in=query)" 200
	is 'all of these requests reached the sandbox' \
		"$(curl --silent "$SANDBOX/sandbox/books" | jq .answers -c)" \
		"{\"200\":$(($(wc -l < "$FOLDER/requests") + 1))}"

	while read -r expected; do
		name=${expected##*[$' \t']}
		expected=${expected%[$' \t']*}
		is "proxy: $name" \
			"$(enrich "$URL" "{\"person\": {\"name\": \"Alva $name\"}}")" "$expected"
	done < <(grep . <<< "$ANSWERS")
	is 'proxy: a list of complaints' \
		"$(enrich "$URL" '{"person": {"name": "Alva sb-422"}}' | head -c 3)" 422
	is 'proxy: a token that is not registered' \
		"$(enrich "$URL" '{"person": {"name": "Alva Nordal"}}' api_token=other)" \
		'403 Current API token is not registered in our database'
	configure_sandbox '{"newer_keys": true}'
	is 'proxy: the newer keys' \
		"$(enrich "$URL" '{"person": {"name": "Alva Nordal"}}')" 200
	test_balance
	test_answers_to_others
	test_that_it_checks
}

test_balance()
{
	is 'proxy: the balance' "$(balance "$URL")" "$BALANCE_KEYS"
	is 'proxy: the balance, with the token in the query' \
		"$(balance "$URL" token_in=query)" "$BALANCE_KEYS"
	is 'proxy: the balance, with a token that is not registered' \
		"$(balance "$URL" api_token=other | head -n 1)" \
		'ERROR:  OE403: Current API token is not registered in our database'
	configure_sandbox '{"balance_status": 402}'
	is 'proxy: the balance, refused' "$(balance "$URL" | head -n 1)" \
		'ERROR:  OE402: Insufficient credits'
	configure_sandbox '{"balance_status": null, "balance_changes": {"credits": {"oneTime": "94"}}}'
	is 'it checks: a balance in another form' "$(balance "$URL" | head -c 13)" 'ERROR:  OE500'
	configure_sandbox '{"balance_changes": null}'
}

# Requests that the extension does not send.
test_answers_to_others()
{
	local token='x-api-token: sandbox-token'
	is 'proxy: an empty person' "$(post "$URL" '{"person": {}}' --header "$token")" 400
	is 'proxy: no token' "$(post "$URL" '{"person": {"name": "Alva"}}')" 403
	is 'proxy: two tokens' "$(curl_status "$URL/v2/enrich/person?apiToken=other" \
		--header "$token" --header 'Content-Type: application/json' \
		--data '{"person": {"name": "Alva"}}')" 400
	is 'proxy: the balance without a token' \
		"$(curl_status "$URL/v2/credits/balance")" 403
	configure_sandbox '{"credits": "1.5"}'
	is 'proxy: no credits left' \
		"$(post "$URL" '{"person": {"name": "Alva"}}' --header "$token")" 402
	is 'proxy: the balance without credits' "$(balance "$URL")" "$BALANCE_KEYS"
	configure_sandbox '{"credits": null}'
	# This proxy leaves the check of requests to the sandbox.
	(start_prism lenient proxy "$DOCUMENT_31" "$SANDBOX" --validate-request false &&
		echo "$URL ${PRISMS[-1]}" > "$FOLDER/lenient")
	local lenient pid
	read -r lenient pid < "$FOLDER/lenient"
	PRISMS+=("$pid")
	is 'proxy: a key that is not in the document' \
		"$(post "$lenient" '{"person": {"shoeSize": "43"}}' --header "$token")" 422
	is 'proxy: a value of another type' \
		"$(post "$lenient" '{"person": {"name": 43}}' --header "$token")" 422
	is 'proxy: no person' "$(post "$lenient" '{}' --header "$token")" 422
}

# If it let these through, the other tests would prove nothing.
test_that_it_checks()
{
	local token='x-api-token: sandbox-token' name
	is 'it checks: a request' \
		"$(post "$URL" '{"person": {"shoeSize": "43"}}' --header "$token")" 422
	for name in sb-noid sb-badcredits-1 sb-toolittle-404; do
		is "it checks: $name" \
			"$(post "$URL" "{\"person\": {\"name\": \"Alva $name\"}}" --header "$token")" 500
	done
	configure_sandbox '{"credits_used": false, "newer_keys": false}'
	is 'it checks: an answer as on the older page, without creditsUsed' \
		"$(post "$URL" '{"person": {"name": "Alva Nordal"}}' --header "$token")" 500
}

# The sandbox's webhooks, in each form that the document describes.  Prism answers 2xx
# to valid payloads and 422 to others.
FORMS='
person	enrich_person_email	enrich_person_phone
lists	reveal_emails		reveal_phones
people	enrich_people		enrich_people
'
WEBHOOK_PEOPLE=('Alva Nordal' 'Alva sb-notrevealed' 'Alva sb-unicode' 'Alva sb-nulls')

# reveal FORM EMAILS PHONES PERSON: prints the status of the call and how many
# deliveries were accepted and refused.
reveal()
{
	local request
	configure_sandbox "{\"webhook_form\": \"$1\"}"
	curl --silent --fail --output /dev/null --data '' "$SANDBOX/sandbox/reset"
	request=$(jq --null-input --compact-output --arg person "$4" \
		--arg emails "$URL/$2?secret=1" --arg phones "$URL/$3?secret=1" '{
			person: { name: $person },
			revealEmails: { includeEmails: true, webhookUrl: $emails },
			revealPhones: { includePhones: true, webhookUrl: $phones }
		}')
	enrich "$SANDBOX" "$request" | tr '\n' ' '
	curl --silent "$SANDBOX/sandbox/wait?webhooks=2&timeout_ms=10000" |
		jq --raw-output '"\(.webhooks) \(.webhook_failures)"'
}

# send_payload NAME PAYLOAD: prints the status of Prism's answer.
send_payload()
{
	curl_status "$URL/$1" --header 'Content-Type: application/json' --data "$2"
}

# receive_payload PAYLOAD: prints the number of calls that receive_webhook() changes,
# or the SQLSTATE.
receive_payload()
{
	psql_here --set=VERBOSITY=sqlstate --set=payload="$1" 2>&1 <<-'END' || true
			SELECT ocean_enrich.receive_webhook(:'payload');
		END
}

test_webhooks()
{
	local form emails phones person
	jq --from-file test/contract/webhooks.jq "$DOCUMENT_31" > "$FOLDER/webhooks.json"
	start_prism webhooks mock "$FOLDER/webhooks.json"
	configure_sandbox '{"newer_keys": true}'
	while read -r form emails phones; do
		for person in "${WEBHOOK_PEOPLE[@]}"; do
			is "webhooks: $form, $person" \
				"$(reveal "$form" "$emails" "$phones" "$person")" '200 2 0'
		done
	done < <(grep . <<< "$FORMS")
	test_that_payloads_are_checked
	test_payloads
}

test_that_payloads_are_checked()
{
	is 'it checks: a payload without a required key' \
		"$(send_payload enrich_person_email '{"domain": "example.com"}')" 422
	is 'it checks: a status that is not in the document' "$(send_payload reveal_emails '
		{"emails": [{"personId": "p1", "address": null, "status": "lost"}], "creditsUsed": 0}')" 422
	differs 'the form "results"' reveal_emails '
		{"results": [{"personId": "p1", "address": "a@example.com", "status": "verified"}], "creditsUsed": 1}'
	differs "the document's own example of e-mail addresses" reveal_emails "$(
		example_of PublicRevealEmailWebhookResult emails)"
	differs "the document's own example of phone numbers" reveal_phones "$(
		example_of PublicRevealPhoneWebhookResult phones)"
}

# differs DESCRIPTION NAME PAYLOAD: the document refuses a payload that we accept.
differs()
{
	is "difference: $1 is not in the document" "$(send_payload "$2" "$3")" 422
	is "... but is accepted" "$(receive_payload "$3")" 0
}

# example_of SCHEMA LIST
example_of()
{
	jq --compact-output --arg schema "$1" --arg list "$2" \
		'.components.schemas[$schema].properties[$list].examples[0] | { ($list): ., creditsUsed: 1 }' \
		"$DOCUMENT"
}

# Any payload that the document allows, and the same with its required keys alone.
# Payloads about companies are refused.
test_payloads()
{
	local seed name payload required
	for seed in {1..3}; do
		start_prism "payloads-$seed" mock "$FOLDER/webhooks.json" --dynamic --seed "$seed"
		for name in $(jq --raw-output '.webhooks | keys[]' "$DOCUMENT"); do
			payload=$(curl --silent --fail "$URL/$name")
			required=$(jq --compact-output --arg name "$name" --slurpfile document "$DOCUMENT" \
				'$document[0] as $d
				| $d.webhooks[$name].post.requestBody.content["application/json"].schema["$ref"]
				| split("/")[-1] as $schema
				| $d.components.schemas[$schema].required as $required
				| $payload | with_entries(select(.key | IN($required[])))' \
				--argjson payload "$payload" --null-input)
			is "payload: number $seed, $name" "$(receive_payload "$payload")" \
				"$([[ $name == enrich_companies ]] && echo 'ERROR:  22023' || echo 0)"
			is "payload: number $seed, $name, required keys alone" "$(receive_payload "$required")" 0
		done
		kill "${PRISMS[-1]}"
	done
}

# Prints the calls without an answer from the ledger, and the end of the server's log.
show_calls()
{
	psql_here --command "
		SELECT state, status, detail, count(*), min(requested_at), max(requested_at)
		FROM ocean_enrich.call WHERE state <> 'answered' GROUP BY 1, 2, 3 ORDER BY 5"
	tail -n 20 "$FOLDER/server.log" | cut -c 1-300
}

clean_up()
{
	local pid
	for pid in "${PRISMS[@]}"; do
		kill "$pid" 2> /dev/null || true
	done
	stop_server "$FOLDER" || true
	rm -rf "$FOLDER"
}

main()
{
	if [[ ! -r $DOCUMENT ]]; then
		echo "skipped: no OpenAPI document; usage: test/contract/run.sh OPENAPI-FILE"
		sum_up
		exit
	fi
	install_missing build contract
	choose_pg_config
	choose_server_user
	choose_cache
	install_prism
	mkdir -p "$LOGS"
	FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/ocean_enrich.XXXXXX")
	trap clean_up EXIT

	start_server_and_sandbox > "$LOGS/server.log"
	DOCUMENT_31=$FOLDER/openapi.json
	jq --from-file test/contract/nulls.jq "$DOCUMENT" > "$DOCUMENT_31"
	jq --compact-output --from-file test/contract/requests.jq "$DOCUMENT" > "$FOLDER/requests"
	test_mock
	test_any_answer
	test_proxy
	test_webhooks
	((FAILED == 0)) || show_calls
	sum_up
}

main "$@"
