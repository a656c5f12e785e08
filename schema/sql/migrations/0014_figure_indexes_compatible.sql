-- What lists, totals and statements read of each call, without its row.
CREATE INDEX calls_figures ON calls (
    call_id, coalesce(start_timestamp, nullif(observed_at, 0)), duration_ms, combined_cost_cents
);

-- The same of chats, whose rows are long: newest first, with every filter of their list.
CREATE INDEX chats_figures ON chats (
    coalesce(start_timestamp, nullif(observed_at, 0)), start_timestamp, observed_at, end_timestamp,
    duration_ms, combined_cost_cents, account, agent_id, version, agent_name, direction, agent_number,
    user_number, chat_type, chat_status, disconnection_reason, user_sentiment, chat_successful, chat_id
);
CREATE INDEX chats_agent ON chats (agent_id, start_timestamp, agent_name);
CREATE INDEX chats_user_number ON chats (user_number, start_timestamp) WHERE user_number IS NOT NULL;
CREATE INDEX chat_messages_tool ON chat_messages (name, chat_id)
WHERE role = 'tool_call_invocation' AND name IS NOT NULL;
