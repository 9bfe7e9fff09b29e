-- What the connector writes into: the update as it stands, and what one asks for beside it.
CREATE TABLE recommendations (
    user_id text PRIMARY KEY,
    update_json text NOT NULL,
    sequence bigint GENERATED ALWAYS AS ((update_json::jsonb ->> 'sequence')::bigint) STORED,
    items jsonb GENERATED ALWAYS AS (update_json::jsonb -> 'items') STORED
);

-- After a crash of a worker an update can come again: what is older than what is there changes nothing. An update
-- belongs to a later click of its partition, or else has a higher sequence.
CREATE FUNCTION keep_newer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    new_update jsonb := NEW.update_json::jsonb;
    old_update jsonb := OLD.update_json::jsonb;
BEGIN
    IF new_update -> 'source' -> 'partition' = old_update -> 'source' -> 'partition' THEN
        IF (new_update -> 'source' ->> 'offset')::bigint < (old_update -> 'source' ->> 'offset')::bigint THEN
            RETURN NULL;
        END IF;
    ELSIF (new_update ->> 'sequence')::bigint <= (old_update ->> 'sequence')::bigint THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER keep_newer BEFORE UPDATE ON recommendations FOR EACH ROW EXECUTE FUNCTION keep_newer();
