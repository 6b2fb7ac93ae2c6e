-- +goose Up

-- A bank may add kinds of second factors of its own.
ALTER TABLE second_factors DROP CONSTRAINT second_factors_kind_check;
ALTER TABLE second_factors ADD CONSTRAINT second_factors_kind_check CHECK (kind ~ '^[a-z][a-z0-9_]{0,39}$');
