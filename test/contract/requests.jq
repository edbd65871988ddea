# Makes requests from the document: for each key, one with its example and one with
# null, and requests with reveals.  One per line.

def of(name): .components.schemas[name].properties | to_entries[];
def example: .value.examples[0];
def whole(name): [of(name) | { key, value: example }] | from_entries;

{ name: "Alva Nordal" } as $alva
| { person: whole("Person"), company: whole("Company") },
  (of("Person") | { person: ($alva + { (.key): example }) }),
  (of("Person") | select(.key != "name") | { person: ($alva + { (.key): null }) }),
  (of("Company") | { person: $alva, company: { (.key): example } }),
  (of("Company") | { person: $alva, company: ({ domain: "example.com" } + { (.key): null }) }),
  { person: $alva, company: null, revealEmails: null, revealPhones: null },
  ({ includeEmails: true }, { includeEmails: true, webhookUrl: null },
	{ includeEmails: true, webhookUrl: "https://hooks.example.com/?secret=1" },
	{ includeEmails: false }
	| { person: $alva, revealEmails: . }),
  ({ includePhones: true }, { includePhones: true, webhookUrl: null },
	{ includePhones: true, webhookUrl: "https://hooks.example.com/?secret=1" }
	| { person: $alva, revealPhones: . })
