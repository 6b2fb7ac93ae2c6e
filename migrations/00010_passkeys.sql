-- +goose Up

-- A passkey is found by a keyed hash of its credential id: whoever logs in with it has not said who they are. Its
-- last_step is the signature counter (WebAuthn §6.1.1), which only grows.
ALTER TABLE second_factors ADD COLUMN credential_index bytea;
ALTER TABLE second_factors ADD CONSTRAINT second_factors_credential_index_check
    CHECK ((kind = 'passkey') = (credential_index IS NOT NULL));
CREATE UNIQUE INDEX second_factors_credential ON second_factors (credential_index) WHERE credential_index IS NOT NULL;
