-- +goose Up

-- What customers see of a client's logo: made anew, small, of what was at its logo_uri. A row without a picture is an
-- attempt that has failed, or that runs.
CREATE TABLE client_logos (
    client_id text        PRIMARY KEY REFERENCES clients ON DELETE CASCADE,
    source    text        NOT NULL,               -- the logo_uri; the row means nothing once the client has another one
    png       bytea,                              -- at most 128 pixels each way
    version   text,                               -- of png, by its content
    tried_at  timestamptz NOT NULL DEFAULT now(), -- last
    CHECK ((png IS NULL) = (version IS NULL))
);
CREATE TRIGGER client_logos_changed AFTER INSERT OR UPDATE ON client_logos
    FOR EACH ROW WHEN (NEW.png IS NOT NULL) EXECUTE FUNCTION announce_change();
