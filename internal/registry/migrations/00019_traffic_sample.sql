-- A sample of conversations, one in 64 by a hash of their IDs, by which a week's traffic is counted: an index of a
-- thousandth of its table's size. Where the table is large already this reads all of it, and holds loaders up meanwhile.

-- +goose Up
CREATE INDEX interactions_sampled ON interactions (service, started) WHERE (hashtextextended(conversation, 0) & 63) = 0;

-- +goose Down
DROP INDEX interactions_sampled;
