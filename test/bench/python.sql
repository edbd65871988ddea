-- The same call in PL/Python, with a connection that is kept for the whole session.
-- Nothing is recorded.

\set ON_ERROR_STOP on

CREATE EXTENSION plpython3u;

CREATE FUNCTION bench.python_enrich(request jsonb, port integer, token text) RETURNS jsonb
	LANGUAGE plpython3u VOLATILE STRICT
AS $$
if 'connection' not in GD:
    import http.client
    GD['connection'] = http.client.HTTPConnection('127.0.0.1', port)
connection = GD['connection']
connection.request('POST', '/v2/enrich/person', request, {
    'x-api-token': token,
    'Content-Type': 'application/json',
    'Accept': 'application/json'})
response = connection.getresponse()
body = response.read().decode()
if response.status != 200:
    plpy.error('status %d' % response.status)
return body
$$;
