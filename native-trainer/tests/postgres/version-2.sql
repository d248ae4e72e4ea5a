-- What `magpie gallery push` made of a gallery of two classes when its tables had version 2.
CREATE TABLE shop_gallery (version int NOT NULL, model text NOT NULL, dim int NOT NULL,
    vector_type text NOT NULL, min_similarity real, rule text, calibration text,
    crop text NOT NULL, index text NOT NULL, codes text NOT NULL);
CREATE TABLE shop_classes (class int PRIMARY KEY, label text NOT NULL,
    metadata text NOT NULL, min_similarity real, thumbnail bytea NOT NULL);
CREATE TABLE shop_entries (entry bigint PRIMARY KEY,
    class int NOT NULL REFERENCES shop_classes, picture bytea NOT NULL,
    embedding vector(3) NOT NULL);
INSERT INTO shop_gallery VALUES
    (2, '0123456789abcdef', 3, 'f32', 0.5, NULL, NULL, 'never', 'hnsw', 'f32');
INSERT INTO shop_classes VALUES
    (0, E'Käse\\', '{"price":"3 €"}', 0.625, '\xffd8ffe0'),
    (1, 'mug', '{}', NULL, '\x');
INSERT INTO shop_entries VALUES
    (0, 0, '\x6e340b9cffb37a989ca544e6bb780a2c', '[1,0,0]'),
    (1, 1, '\x4bf5122f344554c53bde2ebb8cd2b7e3', '[0,0.6,0.8]');
CREATE INDEX ON shop_entries USING hnsw (embedding vector_ip_ops);
