-- +goose Up

-- Who may start and approve what an organization does. Its members are customers.
CREATE TABLE mandates (
    id           uuid        PRIMARY KEY,
    tenant       text        NOT NULL,
    name         text        NOT NULL,               -- of the organization, as its members know it
    own_approval boolean     NOT NULL,               -- whether whoever starts something may approve it too
    tiers        jsonb       NOT NULL,               -- [{"currency", "up_to" (none: any amount), "approvals"}]
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz
);

CREATE TABLE mandate_members (
    mandate_id  uuid    NOT NULL REFERENCES mandates ON DELETE CASCADE,
    customer_id uuid    NOT NULL REFERENCES customers ON DELETE CASCADE,
    may_start   boolean NOT NULL,
    may_approve boolean NOT NULL,
    told_until  timestamptz NOT NULL DEFAULT '-infinity', -- the later, the more the member was told of lately
    PRIMARY KEY (mandate_id, customer_id)
);
CREATE INDEX mandate_members_customer ON mandate_members (customer_id);

-- What one or several people must approve before it is done. Rows stay: they are what a bank proves with who wanted what.
-- Amount and currency are not sealed, for the statement that approves holds them against the mandate.
CREATE TABLE transactions (
    id                uuid        PRIMARY KEY,
    tenant            text        NOT NULL,
    client_id         text        NOT NULL,          -- whose it is: nobody else reads, changes and consumes it
    started_by        uuid        REFERENCES customers ON DELETE SET NULL,
    mandate_id        uuid        REFERENCES mandates, -- NULL: it is the customer's own, who alone approves it
    idempotency_hash  bytea,                         -- of the client's key
    request_hash      bytea       NOT NULL,          -- of what came with the key
    revision          integer     NOT NULL DEFAULT 1,
    amount            numeric(27, 9) NOT NULL,
    currency          text        NOT NULL,
    details           bytea       NOT NULL,          -- sealed JSON: all that is shown
    digest            bytea       NOT NULL,          -- of all that is shown, which is what people sign
    required          integer     NOT NULL,          -- approvals, as the mandate was when somebody last looked
    status            text        NOT NULL DEFAULT 'awaiting_approval' -- expired is what expires_at says
                      CHECK (status IN ('awaiting_approval', 'approved', 'rejected', 'voided', 'consumed')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    status_changed_at timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz NOT NULL,
    UNIQUE (client_id, idempotency_hash)
);
CREATE INDEX transactions_started ON transactions (started_by, created_at DESC);
CREATE INDEX transactions_waiting ON transactions (mandate_id) WHERE status = 'awaiting_approval';

-- Who said what to which revision, and how they proved to be who they are.
CREATE TABLE transaction_decisions (
    transaction_id uuid        NOT NULL REFERENCES transactions ON DELETE CASCADE,
    customer_id    uuid        REFERENCES customers ON DELETE SET NULL,
    revision       integer     NOT NULL,
    digest         bytea       NOT NULL,
    answer         text        NOT NULL CHECK (answer IN ('approved', 'rejected')),
    factor_kind    text        NOT NULL,             -- of an approval
    reason         bytea,                            -- of a rejection, sealed
    void           boolean     NOT NULL DEFAULT false, -- it did not count when the transaction was approved: whoever gave it might not any more
    at             timestamptz NOT NULL DEFAULT now(),
    UNIQUE (transaction_id, revision, customer_id)
);

-- A second password for transactions, where an institution wants one.
ALTER TABLE customers ADD COLUMN transaction_password_hash text;
