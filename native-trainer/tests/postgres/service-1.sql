-- The tables of `magpie serve --server` when they had version 1. Rows of a gallery are put there by the test.
CREATE TABLE shop_service (one bool PRIMARY KEY CHECK (one), schema int NOT NULL,
    id text NOT NULL, generation bigint NOT NULL, previous bigint,
    place bigint NOT NULL, version bigint NOT NULL);
CREATE TABLE shop_generations (generation bigserial PRIMARY KEY,
    content text NOT NULL, length bigint NOT NULL);
CREATE TABLE shop_files (generation bigint NOT NULL, piece int NOT NULL,
    bytes bytea NOT NULL, PRIMARY KEY (generation, piece));
CREATE TABLE shop_journal (place bigint PRIMARY KEY, generation bigint NOT NULL,
    version bigint NOT NULL, change text NOT NULL);
CREATE TABLE shop_keys (key text PRIMARY KEY, place bigserial UNIQUE,
    request text NOT NULL, version bigint NOT NULL, answer text NOT NULL);
INSERT INTO shop_service VALUES (true, 1, '0123456789abcdef', 1, NULL, 1, 1);
