-- what the program of this schema wrote into a new SQLite file
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE bases (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	weights_digest VARCHAR(71) NOT NULL, 
	config_digest VARCHAR(71) NOT NULL, 
	tokenizer_digest VARCHAR(71) NOT NULL, 
	architecture TEXT NOT NULL, 
	family TEXT NOT NULL, 
	hidden_size INTEGER NOT NULL, 
	parameters BIGINT NOT NULL, 
	size BIGINT NOT NULL, 
	location TEXT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_bases PRIMARY KEY (id), 
	CONSTRAINT uq_bases_name UNIQUE (name)
);
CREATE INDEX ix_bases_digest ON bases (digest);
CREATE TABLE environments (
	id INTEGER NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_environments PRIMARY KEY (id), 
	CONSTRAINT uq_environments_digest UNIQUE (digest)
);
CREATE TABLE tasks (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	definition TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	splits TEXT NOT NULL, 
	data_digest VARCHAR(71) NOT NULL, 
	checks TEXT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_tasks PRIMARY KEY (id), 
	CONSTRAINT uq_tasks_name UNIQUE (name)
);
CREATE TABLE version_files (
	version_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	size BIGINT NOT NULL, 
	CONSTRAINT pk_version_files PRIMARY KEY (version_id, name), 
	CONSTRAINT fk_version_files_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE INDEX ix_version_files_digest ON version_files (digest);
CREATE TABLE gate_refusals (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	rule TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_gate_refusals PRIMARY KEY (id), 
	CONSTRAINT fk_gate_refusals_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE INDEX ix_gate_refusals_version_id ON gate_refusals (version_id);
CREATE TABLE aliases (
	task_id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	version_id INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (task_id, name), 
	CONSTRAINT fk_aliases_task_id FOREIGN KEY(task_id) REFERENCES tasks (id), 
	CONSTRAINT fk_aliases_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE INDEX ix_aliases_version_id ON aliases (version_id);
CREATE TABLE alias_events (
	id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	alias VARCHAR(64) NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	from_version_id INTEGER, 
	to_version_id INTEGER NOT NULL, 
	actor TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_alias_events PRIMARY KEY (id), 
	CONSTRAINT fk_alias_events_from_version_id FOREIGN KEY(from_version_id) REFERENCES versions (id), 
	CONSTRAINT fk_alias_events_task_id FOREIGN KEY(task_id) REFERENCES tasks (id), 
	CONSTRAINT fk_alias_events_to_version_id FOREIGN KEY(to_version_id) REFERENCES versions (id)
);
CREATE INDEX ix_alias_events_task_id_alias ON alias_events (task_id, alias);
CREATE TABLE evaluations (
	id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	state_version_id INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	split VARCHAR(16) NOT NULL, 
	metric TEXT NOT NULL, 
	score FLOAT NOT NULL, 
	examples INTEGER NOT NULL, 
	predictions_digest VARCHAR(71) NOT NULL, 
	logits_digest VARCHAR(71) NOT NULL, 
	plan_digest VARCHAR(71) NOT NULL, 
	data_digest VARCHAR(71) NOT NULL, 
	base_digest VARCHAR(71) NOT NULL, 
	environment_id INTEGER NOT NULL, 
	seconds FLOAT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_evaluations PRIMARY KEY (id), 
	CONSTRAINT fk_evaluations_environment_id FOREIGN KEY(environment_id) REFERENCES environments (id), 
	CONSTRAINT fk_evaluations_state_version_id FOREIGN KEY(state_version_id) REFERENCES versions (id), 
	CONSTRAINT fk_evaluations_task_id FOREIGN KEY(task_id) REFERENCES tasks (id), 
	CONSTRAINT fk_evaluations_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE INDEX ix_evaluations_task_id ON evaluations (task_id);
CREATE INDEX ix_evaluations_version_id_state_version_id_kind_split ON evaluations (version_id, state_version_id, kind, split);
CREATE TABLE streams (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	spec TEXT NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	base_digest VARCHAR(71) NOT NULL, 
	tasks TEXT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	updated_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_streams PRIMARY KEY (id), 
	CONSTRAINT uq_streams_name UNIQUE (name)
);
CREATE INDEX ix_streams_updated_at ON streams (updated_at);
CREATE TABLE arm_runs (
	id INTEGER NOT NULL, 
	stream_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	strategy TEXT NOT NULL, 
	method TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	settings TEXT NOT NULL, 
	sweep TEXT NOT NULL, 
	chosen TEXT NOT NULL, 
	finished BOOLEAN NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_arm_runs PRIMARY KEY (id), 
	CONSTRAINT fk_arm_runs_stream_id FOREIGN KEY(stream_id) REFERENCES streams (id), 
	CONSTRAINT uq_arm_runs_stream_id_name_seed UNIQUE (stream_id, name, seed)
);
CREATE TABLE steps (
	id INTEGER NOT NULL, 
	arm_run_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	base_unchanged BOOLEAN, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_steps PRIMARY KEY (id), 
	CONSTRAINT fk_steps_arm_run_id FOREIGN KEY(arm_run_id) REFERENCES arm_runs (id), 
	CONSTRAINT fk_steps_task_id FOREIGN KEY(task_id) REFERENCES tasks (id), 
	CONSTRAINT fk_steps_version_id FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT uq_steps_arm_run_id_position UNIQUE (arm_run_id, position)
);
CREATE TABLE step_cells (
	step_id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	evaluation_id INTEGER NOT NULL, 
	CONSTRAINT pk_step_cells PRIMARY KEY (step_id, task_id), 
	CONSTRAINT fk_step_cells_evaluation_id FOREIGN KEY(evaluation_id) REFERENCES evaluations (id), 
	CONSTRAINT fk_step_cells_step_id FOREIGN KEY(step_id) REFERENCES steps (id), 
	CONSTRAINT fk_step_cells_task_id FOREIGN KEY(task_id) REFERENCES tasks (id)
);
CREATE TABLE mirror_items (
	"key" VARCHAR(255) NOT NULL, 
	mlflow_id TEXT NOT NULL, 
	content_digest VARCHAR(71) NOT NULL, 
	synced_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_mirror_items PRIMARY KEY ("key")
);
CREATE TABLE "versions" (
	id INTEGER NOT NULL, 
	task_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	manifest TEXT NOT NULL, 
	manifest_digest VARCHAR(71) NOT NULL, 
	method TEXT NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	seed BIGINT NOT NULL, 
	score FLOAT, 
	size BIGINT NOT NULL, 
	trainable_parameters BIGINT, 
	base_digest VARCHAR(71) NOT NULL, 
	data_digest VARCHAR(71) NOT NULL, 
	parent_id INTEGER, 
	environment_id INTEGER NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	deleted_at VARCHAR(27), 
	deleted_by TEXT, 
	deleted_because TEXT, 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT fk_versions_parent_id FOREIGN KEY(parent_id) REFERENCES versions (id), 
	CONSTRAINT fk_versions_environment_id FOREIGN KEY(environment_id) REFERENCES environments (id), 
	CONSTRAINT uq_versions_task_id_number UNIQUE (task_id, number), 
	CONSTRAINT fk_versions_task_id FOREIGN KEY(task_id) REFERENCES tasks (id)
);
CREATE UNIQUE INDEX uq_versions_task_id_digest ON versions (task_id, digest) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_task_id_role_number ON versions (task_id, role, number) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_task_id_id ON versions (task_id, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_method_id ON versions (method, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_score_id ON versions (score, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_number_id ON versions (number, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_size_id ON versions (size, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_created_at_id ON versions (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_seed_id ON versions (seed, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_versions_trainable_parameters_id ON versions (trainable_parameters, id) WHERE deleted_at IS NULL;
CREATE INDEX ix_aliases_name_version_id ON aliases (name, version_id);
CREATE TABLE version_tags (
	version_id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	value VARCHAR(256) NOT NULL, 
	CONSTRAINT pk_version_tags PRIMARY KEY (version_id, name), 
	CONSTRAINT fk_version_tags_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE INDEX ix_version_tags_name_value ON version_tags (name, value);
CREATE TABLE version_notes (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_version_notes PRIMARY KEY (id), 
	CONSTRAINT fk_version_notes_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE INDEX ix_version_notes_version_id ON version_notes (version_id);
CREATE TABLE probes (
	version_id INTEGER NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	environment_id INTEGER NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_probes PRIMARY KEY (version_id), 
	CONSTRAINT fk_probes_environment_id FOREIGN KEY(environment_id) REFERENCES environments (id), 
	CONSTRAINT fk_probes_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
CREATE INDEX ix_probes_digest ON probes (digest);
CREATE TABLE policies (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_policies PRIMARY KEY ("key")
);
CREATE TABLE log_events (
	id INTEGER NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	actor TEXT NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	subject TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	digest VARCHAR(71) NOT NULL, 
	CONSTRAINT pk_log_events PRIMARY KEY (id)
);
CREATE INDEX ix_log_events_subject_id ON log_events (subject, id);
CREATE TRIGGER alias_events_no_update BEFORE UPDATE ON alias_events BEGIN SELECT RAISE(ABORT, 'alias_events is only ever added to'); END;
CREATE TRIGGER alias_events_no_delete BEFORE DELETE ON alias_events BEGIN SELECT RAISE(ABORT, 'alias_events is only ever added to'); END;
CREATE TRIGGER log_events_no_update BEFORE UPDATE ON log_events BEGIN SELECT RAISE(ABORT, 'log_events is only ever added to'); END;
CREATE TRIGGER log_events_no_delete BEFORE DELETE ON log_events BEGIN SELECT RAISE(ABORT, 'log_events is only ever added to'); END;
CREATE TRIGGER version_notes_no_update BEFORE UPDATE ON version_notes BEGIN SELECT RAISE(ABORT, 'version_notes is only ever added to'); END;
CREATE TRIGGER version_notes_no_delete BEFORE DELETE ON version_notes BEGIN SELECT RAISE(ABORT, 'version_notes is only ever added to'); END;
CREATE TABLE abilities (
	id INTEGER NOT NULL, 
	probe TEXT NOT NULL, 
	probe_digest VARCHAR(71) NOT NULL, 
	head_version_id INTEGER, 
	state_version_id INTEGER, 
	after_version_id INTEGER, 
	metric TEXT NOT NULL, 
	score FLOAT NOT NULL, 
	examples INTEGER NOT NULL, 
	predictions_digest VARCHAR(71) NOT NULL, 
	logits_digest VARCHAR(71) NOT NULL, 
	plan_digest VARCHAR(71) NOT NULL, 
	base_digest VARCHAR(71) NOT NULL, 
	environment_id INTEGER NOT NULL, 
	seconds FLOAT NOT NULL, 
	created_at VARCHAR(27) NOT NULL, 
	CONSTRAINT pk_abilities PRIMARY KEY (id), 
	CONSTRAINT fk_abilities_environment_id FOREIGN KEY(environment_id) REFERENCES environments (id), 
	CONSTRAINT fk_abilities_head_version_id FOREIGN KEY(head_version_id) REFERENCES versions (id), 
	CONSTRAINT fk_abilities_state_version_id FOREIGN KEY(state_version_id) REFERENCES versions (id), 
	CONSTRAINT fk_abilities_after_version_id FOREIGN KEY(after_version_id) REFERENCES versions (id)
);
CREATE INDEX ix_abilities_probe_digest_state_version_id ON abilities (probe_digest, state_version_id);
