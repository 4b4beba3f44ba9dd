-- The seventh step to the schema of a PostgreSQL store: at which nodes a request counts.
--
-- Law: a request counts at each node of its path, until an operator revokes one of them. Then it counts no more at the
-- nodes above that one.

-- The root has depth 0.
CREATE TABLE capx.request_nodes (
    node text NOT NULL, audience text NOT NULL, request text NOT NULL, depth int NOT NULL,
    PRIMARY KEY (node, audience, request)
);
CREATE INDEX request_nodes_of_request ON capx.request_nodes (request, depth);
-- By the text, not as JSON: a row that capx did not write must not keep a store from being migrated. Within a value a
-- quote has a backslash before it, so these names are found nowhere else.
INSERT INTO capx.request_nodes
SELECT btrim(path.node, '"'), substring(r.body FROM '"audience":"([^"]*)"'), r.id, path.nth - 1
FROM
    capx.requests r,
    unnest(string_to_array(substring(r.body FROM '"path":\[([^]]*)\]'), ',')) WITH ORDINALITY AS path (node, nth)
WHERE substring(r.body FROM '"audience":"([^"]*)"') IS NOT NULL
ON CONFLICT DO NOTHING;

UPDATE capx.version SET version = 7;
