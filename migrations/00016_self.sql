-- +goose Up

-- Customers who want to be gone. They can think better of it until due_at.
CREATE TABLE account_deletions (
    customer_id  uuid        PRIMARY KEY REFERENCES customers ON DELETE CASCADE,
    requested_at timestamptz NOT NULL DEFAULT now(),
    due_at       timestamptz NOT NULL,
    keep_for     interval    NOT NULL,      -- what the law makes the bank keep
    message      bytea       NOT NULL       -- sealed JSON: what they are told when it is done
);
CREATE INDEX account_deletions_due_at ON account_deletions (due_at);

-- Customers who are gone. One of them who comes back with a backup or an import goes again.
CREATE TABLE deleted_customers (
    customer_id uuid        PRIMARY KEY,
    tenant      text        NOT NULL,
    deleted_at  timestamptz NOT NULL DEFAULT now()
);

-- What must be kept of customers who are gone: which client they had given access to what, and which transactions they took
-- part in. It names nobody. Who it was, the core knows by the client's id for as long as it keeps its own records.
CREATE TABLE retained_records (
    id                 bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id        uuid        NOT NULL, -- of a row that is no more
    fineract_client_id bigint,
    kind               text        NOT NULL, -- the table where it was
    record             jsonb       NOT NULL, -- its row; what was sealed there is sealed here
    retained_until     timestamptz NOT NULL
);
CREATE INDEX retained_records_customer ON retained_records (customer_id);
CREATE INDEX retained_records_retained_until ON retained_records (retained_until);
