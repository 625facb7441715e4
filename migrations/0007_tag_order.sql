-- A list by tag goes through the tag's paths in their order, however many secrets there are. A secret keeps its path
-- for life.
ALTER TABLE secret_tag ADD COLUMN path TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE secret_tag SET path = (SELECT s.path FROM secret s WHERE s.tenant_id = secret_tag.tenant_id AND s.id = secret_tag.secret_id);
DROP INDEX secret_tag_tag;
CREATE INDEX secret_tag_path ON secret_tag (tenant_id, tag, path);
