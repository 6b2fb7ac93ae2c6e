-- +goose Up

-- Apache Fineract's two-factor API (docs/fineract-two-factor.md). What an institution changed of its configuration; what is
-- not here has the default.
CREATE TABLE fineract_twofactor_configuration (
    tenant text NOT NULL,
    name   text NOT NULL,
    value  text NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- What a customer asked for with their last one-time code. The code itself is in one_time_codes.
CREATE TABLE fineract_otp_requests (
    customer_id uuid        PRIMARY KEY REFERENCES customers ON DELETE CASCADE,
    tenant      text        NOT NULL,
    extended    boolean     NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX fineract_otp_requests_expires_at ON fineract_otp_requests (expires_at);

-- Tokens that show that both factors were shown. A customer has one for each device.
CREATE TABLE fineract_tfa_tokens (
    hash        bytea       PRIMARY KEY, -- SHA-256
    tenant      text        NOT NULL,
    customer_id uuid        NOT NULL REFERENCES customers ON DELETE CASCADE,
    extended    boolean     NOT NULL,
    valid_from  timestamptz NOT NULL,
    valid_to    timestamptz NOT NULL
);
CREATE INDEX fineract_tfa_tokens_customer ON fineract_tfa_tokens (customer_id);
CREATE INDEX fineract_tfa_tokens_valid_to ON fineract_tfa_tokens (valid_to);

-- They end when a factor that they stand for does: the password is another one, an address for codes is, a second factor is
-- removed, the customer is disabled. Whoever does that need not think of them.
-- +goose StatementBegin
CREATE FUNCTION end_fineract_tfa_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'customers' THEN
        DELETE FROM fineract_tfa_tokens WHERE customer_id = NEW.id;
    ELSE
        DELETE FROM fineract_tfa_tokens WHERE customer_id = OLD.customer_id;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER customers_tfa_tokens AFTER UPDATE OF password_hash, disabled_at, email_index, phone_index ON customers
    FOR EACH ROW WHEN (OLD.password_hash IS DISTINCT FROM NEW.password_hash OR OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL
        OR OLD.email_index <> NEW.email_index OR OLD.email_index IS NOT NULL AND NEW.email_index IS NULL
        OR OLD.phone_index <> NEW.phone_index OR OLD.phone_index IS NOT NULL AND NEW.phone_index IS NULL)
    EXECUTE FUNCTION end_fineract_tfa_tokens();
CREATE TRIGGER second_factors_tfa_tokens AFTER DELETE ON second_factors
    FOR EACH ROW WHEN (OLD.confirmed_at IS NOT NULL) EXECUTE FUNCTION end_fineract_tfa_tokens();
