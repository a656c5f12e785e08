-- Fields of chats by SMS, by which Retell's list of chats filters.
ALTER TABLE chats ADD COLUMN direction TEXT;
ALTER TABLE chats ADD COLUMN agent_number TEXT;
ALTER TABLE chats ADD COLUMN user_number TEXT;
ALTER TABLE chats ADD COLUMN duration_ms INTEGER;
ALTER TABLE chats ADD COLUMN disconnection_reason TEXT;
ALTER TABLE chats ADD COLUMN data_storage_setting TEXT;
