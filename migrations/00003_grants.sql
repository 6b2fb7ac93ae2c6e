-- +goose Up

-- A grant that a client manages by its id (Grant Management for OAuth 2.0) is made by each request that asks for one; all
-- others share one grant per client, customer and consent.
ALTER TABLE grants
    ADD COLUMN managed         boolean NOT NULL DEFAULT false,
    ADD COLUMN generation      integer NOT NULL DEFAULT 0,     -- counts what ends earlier tokens: merge and replace
    ADD COLUMN terms           jsonb   NOT NULL DEFAULT '[]',  -- one object per approval: authorization, scopes, account_ids, sealed
    ADD COLUMN ended_by_client boolean NOT NULL DEFAULT false;
DROP INDEX grants_live;
CREATE UNIQUE INDEX grants_live ON grants (client_id, customer_id, (coalesce(consent_id, ''))) WHERE revoked_at IS NULL AND NOT managed;

-- grant_id is from the start the grant that a request wants changed.
ALTER TABLE authorizations
    ADD COLUMN terms            bytea,   -- sealed: what is asked for besides scopes; it outlives the row, in its grant
    ADD COLUMN grant_action     text     CHECK (grant_action IN ('create', 'merge', 'replace')),
    ADD COLUMN grant_generation integer  NOT NULL DEFAULT 0;
