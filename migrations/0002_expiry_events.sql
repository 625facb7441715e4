-- When the next thing about a secret's expiry is to be told: a threshold that it passes, or the expiry itself.
ALTER TABLE secret ADD COLUMN notify_at TIMESTAMPTZ;
CREATE INDEX secret_notify ON secret (notify_at) WHERE notify_at IS NOT NULL;
-- What is older is looked at once; the job finds out what is still to come.
UPDATE secret SET notify_at = created_at WHERE expires_at IS NOT NULL;
