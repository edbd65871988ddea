/*
 * person.sql
 *		An answer as typed columns and rows, whatever it looks like: a key that
 *		is missing, null or not what the API promises is NULL, never an error.
 */

-- The answer of the documentation

CREATE TEMP TABLE documented AS SELECT '{
  "id": "e9447c74eafa8a19",
  "domain": "google.com",
  "name": "John Doe",
  "firstName": "John",
  "lastName": "Doe",
  "country": "us",
  "state": "CA",
  "location": "Copenhagen, Capital Region, Denmark",
  "linkedinUrl": "https://www.linkedin.com/in/someone",
  "seniorities": ["C-Level", "Manager"],
  "departments": ["Management", "Marketing and Advertising"],
  "photo": "http://media.licdn.com/dms/image/somelink",
  "jobTitle": "Professeur",
  "jobTitleEnglish": "Teacher",
  "currentJobDescription": "Software Engineer specializing in cloud infrastructure",
  "experiences": [
    {
      "dateFrom": "2020-01-01",
      "dateTo": "2021-01-01",
      "description": "Software Engineer specializing in cloud infrastructure",
      "domain": "domain.com",
      "jobTitle": "Software Engineer"
    }
  ],
  "summary": "Some text that the person wrote to describe themselves",
  "skills": ["Product Management", "Entrepreneurship", "Social Media"],
  "phone": {"numbers": ["+4512345678", "+33 6 00 00 00 00"], "status": "verified"},
  "email": {"address": "example.jonas@ocean.io", "status": "verified"}
}'::jsonb AS enriched;

\x on
SELECT person.* FROM documented, ocean_person(enriched) AS person;
SELECT experience.* FROM documented, ocean_person_experiences(enriched) AS experience;

-- The newer keys

SELECT headline, inferred_emails, connections_count, followers_count, updated_at, credits_used,
	experience.linkedin_company_handle
FROM documented, LATERAL (SELECT enriched || '{
		"creditsUsed": 0.10, "inferredEmails": ["j.doe@google.com"],
		"updatedAt": "2026-10-27T12:09:37Z", "connectionsCount": 500, "followersCount": 2147483647,
		"headline": "Teaches", "experiences": [{"linkedinCompanyHandle": "google"}]}' AS newer) AS n,
	ocean_person(newer), ocean_person_experiences(newer) AS experience;
\x off

-- What columns there are

\d ocean_person

-- Nothing, and null in every key

SELECT ocean_person(NULL) IS NULL AS no_person,
	(SELECT count(*) FROM ocean_person_experiences(NULL)) AS experiences;
SELECT to_jsonb(person) = jsonb_object_agg(column_name, NULL) AS all_null
FROM documented, LATERAL (SELECT jsonb_object_agg(key, NULL) AS nulls FROM jsonb_object_keys(enriched) AS key) AS n,
	ocean_person(nulls) AS person, jsonb_object_keys(to_jsonb(person)) AS column_name
GROUP BY person;
SELECT jsonb_strip_nulls(to_jsonb(person)) FROM ocean_person('{"id": "1", "domain": "example.com"}') AS person;

-- Any value in any place

SELECT value, name, skills, phone_numbers, phone_status, email_address, experiences, inferred_emails,
	connections_count AS count, credits_used AS credits
FROM unnest(ARRAY['null', 'true', '7', '"x"', '[]', '{}', '["x", null, 7, ["y"], {"z": 1}]',
		'{"numbers": 7, "status": ["x"], "address": {}}',
		'{"numbers": ["1", null], "status": null, "address": 7}']::jsonb[]) AS value,
	documented, LATERAL (SELECT jsonb_object_agg(key, value) AS hostile
		FROM jsonb_object_keys(enriched || '{"creditsUsed": 0, "inferredEmails": 0, "updatedAt": 0,
			"connectionsCount": 0, "followersCount": 0, "headline": 0}') AS key) AS h,
	ocean_person(hostile);

-- Each column takes one type of JSON only

SELECT column_name, string_agg(kind, ', ' ORDER BY kind) AS taken
FROM (VALUES ('string', '"x"'::jsonb), ('number', '7'), ('boolean', 'true'), ('array', '[]'), ('object', '{}'), ('null', 'null')) AS k (kind, value),
	documented, LATERAL (SELECT jsonb_object_agg(key, value) || jsonb_build_object(
			'phone', jsonb_build_object('numbers', value, 'status', value), 'email', jsonb_build_object('address', value, 'status', value)) AS hostile
		FROM jsonb_object_keys(enriched || '{"creditsUsed": 0, "inferredEmails": 0, "updatedAt": 0,
			"connectionsCount": 0, "followersCount": 0, "headline": 0}') AS key) AS h,
	ocean_person(hostile) AS person, jsonb_each(to_jsonb(person)) AS columns (column_name, shown)
WHERE shown <> 'null' GROUP BY column_name ORDER BY column_name;

-- Numbers that are no integer, or beyond it

SELECT count, connections_count, followers_count
FROM unnest(ARRAY['2147483647', '2147483648', '-2147483648', '1.5', '1e3', '1e20', '"7"', 'true']::jsonb[]) AS count,
	ocean_person(jsonb_build_object('connectionsCount', count, 'followersCount', count));
SELECT (ocean_person('{"creditsUsed": 1234567890123456789012345678901234567890.10}')).credits_used;

-- A value that is no object at all

SELECT value, ocean_person(value) IS NULL AS all_null,
	(SELECT count(*) FROM ocean_person_experiences(value)) AS experiences
FROM unnest(ARRAY['null', 'true', '7', '"x"', '[]', '["id"]', '[{"id": "1", "experiences": [{}]}]']::jsonb[]) AS value;

-- Experiences that are none

SELECT experiences, ordinality, date_from, description, job_title
FROM unnest(ARRAY['null', '7', '"x"', '{}', '{"dateFrom": "2020-01-01"}', '[]', '[[]]', '["x"]',
		'[null, {"jobTitle": "CEO"}, 7, {"jobTitle": ["x"], "description": 7}]']::jsonb[]) AS experiences
	LEFT JOIN LATERAL ocean_person_experiences(jsonb_build_object('experiences', experiences)) ON true;

-- Dates

SELECT value, date_from, date_to
FROM unnest(ARRAY['"2020-02-29"', '"2021-02-29"', '"2020-02-30"', '"2020-04-31"', '"2020-13-01"',
		'"2020-00-10"', '"2020-10-00"', '"0000-01-01"', '"0001-01-01"', '"9999-12-31"', '"10000-01-01"',
		'"-2020-01-01"', '"2020-01-01T12:00:00Z"', '"2020-01"', '"2020"', '""', '"today"', '"infinity"',
		'"20200101"', '" 2020-01-01"', '"２０２０-01-01"', '20200101', 'true', '["2020-01-01"]',
		'{"year": 2020}', 'null']::jsonb[]) AS value,
	ocean_person_experiences(jsonb_build_object('experiences',
		jsonb_build_array(jsonb_build_object('dateFrom', value, 'dateTo', value))));
SELECT date_from FROM ocean_person_experiences('{"experiences": [{"dateFrom": "1900-02-29"},
	{"dateFrom": "2000-02-29"}, {"dateFrom": "1583-12-31"}]}');

-- The order of the API, and what belongs to nobody is no row

CREATE TEMP TABLE people (name text, enriched jsonb);
INSERT INTO people VALUES
	('two', '{"experiences": [{"jobTitle": "b"}, {"jobTitle": "a"}]}'), ('none', '{}'), ('null', NULL);
SELECT name, ordinality, job_title FROM people, ocean_person_experiences(enriched);

-- Immutable and in one piece: a column of the type, an index on one of its fields

CREATE TABLE kept (person ocean_person);
INSERT INTO kept SELECT ocean_person(enriched) FROM documented;
CREATE INDEX ON kept (((person).email_address));
SELECT (person).name, (person).skills[1] FROM kept WHERE (person).email_address = 'example.jonas@ocean.io';
DROP TABLE kept;
CREATE INDEX people_country_idx ON people (((ocean_person(enriched)).country));
