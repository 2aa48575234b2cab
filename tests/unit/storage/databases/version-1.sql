BEGIN TRANSACTION;
CREATE TABLE copies (
  sha256     TEXT NOT NULL,
  provider   TEXT NOT NULL,
  url        TEXT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (sha256, provider)
);
INSERT INTO "copies" VALUES('566baaa8e2052c6326adc335fbe8e1bf4f79aa10f7985aa8ae817c359212a563','atlas','http://127.0.0.1:36715/_uploads/566baaa8e2052c6326adc335/566baaa8e2052c63.png',1795334400.0);
INSERT INTO "copies" VALUES('2ab211094b96ca919c05a4509c0113f18227f7c483a58c6d30ddd578d18c2176','atlas','http://127.0.0.1:36715/_uploads/2ab211094b96ca919c05a450/2ab211094b96ca91.png',1795334400.0);
INSERT INTO "copies" VALUES('f2f556d81fa3911aeefb3f72acdc85d4bde44d41881ece114a207a3259eba640','atlas','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/3.png',1795348810.08);
INSERT INTO "copies" VALUES('20f1f70a5235cb64c1fa2658320278d5f1c19edf4dc32668711af2d07abb0afc','atlas','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/1.png',1795348810.08);
INSERT INTO "copies" VALUES('9fb7da8051bcdd429ffc57c46af438906afc1db0051440c9666e112ec3f5393b','atlas','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/2.png',1795348810.08);
INSERT INTO "copies" VALUES('3c057eb65b65fe642cffa0be8b1c3d742a7d12fc56daf5c06f84fb33b2dc9f84','atlas','http://127.0.0.1:36715/_results/c7fd80b86a734c8692c7373d56de08df/1.png',1.79534881060505795485e+09);
INSERT INTO "copies" VALUES('aba8b9f29647473d4dd4d17225825fc2a53ddfa046f84fb9e21e6a3dd2df53a9','atlas','http://127.0.0.1:36715/_results/e5b7028b526040dfb07ffa7a4dcebc21/1.png',1.79534881060505795485e+09);
INSERT INTO "copies" VALUES('dc5862863895e8e9b549714141a01936480ab2dbc5bd6c67637758514cb038d7','atlas','http://127.0.0.1:36715/_results/16688ad85d1e418fabe976d125e6b1bb/1.png',1.79534882121011590957e+09);
CREATE TABLE frames (
  job_id         TEXT NOT NULL,
  n              INTEGER NOT NULL,      
  prediction_id  TEXT NOT NULL,
  url            TEXT,
  url_expires_at DOUBLE PRECISION,
  sha256         TEXT,                  
  saved_path     TEXT,
  source         TEXT NOT NULL,
  error          TEXT,
  attempts       INTEGER NOT NULL DEFAULT 0,
  created_at     DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (job_id, n)
);
INSERT INTO "frames" VALUES('job_49635285',1,'job_49635285-0-0','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/1.png',1795348810.08,'20f1f70a5235cb64c1fa2658320278d5f1c19edf4dc32668711af2d07abb0afc','/home/you/Pictures/job_49635285-01.png','["img_566baaa8"]',NULL,0,1795262410.08);
INSERT INTO "frames" VALUES('job_49635285',2,'job_49635285-0-0','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/2.png',1795348810.08,'9fb7da8051bcdd429ffc57c46af438906afc1db0051440c9666e112ec3f5393b','/home/you/Pictures/job_49635285-02.png','["img_566baaa8"]',NULL,0,1795262410.08);
INSERT INTO "frames" VALUES('job_49635285',3,'job_49635285-0-0','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/3.png',1795348810.08,'f2f556d81fa3911aeefb3f72acdc85d4bde44d41881ece114a207a3259eba640','/home/you/Pictures/job_49635285-03.png','["img_566baaa8"]',NULL,0,1795262410.08);
INSERT INTO "frames" VALUES('job_8ac85085',1,'job_8ac85085-0-0','http://127.0.0.1:36715/_results/c7fd80b86a734c8692c7373d56de08df/1.png',1.79534881060505795485e+09,'3c057eb65b65fe642cffa0be8b1c3d742a7d12fc56daf5c06f84fb33b2dc9f84',NULL,'["img_2ab21109"]',NULL,0,1.79526241060505795479e+09);
INSERT INTO "frames" VALUES('job_7ae97162',1,'job_7ae97162-0-0','http://127.0.0.1:36715/_results/e5b7028b526040dfb07ffa7a4dcebc21/1.png',1.79534881060505795485e+09,'aba8b9f29647473d4dd4d17225825fc2a53ddfa046f84fb9e21e6a3dd2df53a9',NULL,'["img_566baaa8"]',NULL,0,1.79526241060505795479e+09);
INSERT INTO "frames" VALUES('job_8ac85085',2,'job_8ac85085-0-1','http://127.0.0.1:36715/_results/16688ad85d1e418fabe976d125e6b1bb/1.png',1.79534882121011590957e+09,'dc5862863895e8e9b549714141a01936480ab2dbc5bd6c67637758514cb038d7',NULL,'["job_8ac85085/1"]',NULL,0,1.79526242121011590955e+09);
CREATE TABLE holders (
  sha256 TEXT NOT NULL,
  owner  TEXT NOT NULL,                 
  PRIMARY KEY (sha256, owner)
);
INSERT INTO "holders" VALUES('566baaa8e2052c6326adc335fbe8e1bf4f79aa10f7985aa8ae817c359212a563','ann');
INSERT INTO "holders" VALUES('2ab211094b96ca919c05a4509c0113f18227f7c483a58c6d30ddd578d18c2176','ann');
CREATE TABLE images (
  sha256     TEXT PRIMARY KEY,
  handle     TEXT NOT NULL UNIQUE,
  mime_type  TEXT NOT NULL,
  width      INTEGER NOT NULL,
  height     INTEGER NOT NULL,
  bytes      INTEGER NOT NULL,
  file       TEXT NOT NULL,             
  created_at DOUBLE PRECISION NOT NULL
);
INSERT INTO "images" VALUES('566baaa8e2052c6326adc335fbe8e1bf4f79aa10f7985aa8ae817c359212a563','img_566baaa8','image/png',64,48,137,'566baaa8e2052c63.png',1795262400.0);
INSERT INTO "images" VALUES('2ab211094b96ca919c05a4509c0113f18227f7c483a58c6d30ddd578d18c2176','img_2ab21109','image/png',64,48,138,'2ab211094b96ca91.png',1795262400.0);
INSERT INTO "images" VALUES('f2f556d81fa3911aeefb3f72acdc85d4bde44d41881ece114a207a3259eba640','img_f2f556d8','image/png',64,48,2520,'f2f556d81fa3911a.png',1795262410.08);
INSERT INTO "images" VALUES('20f1f70a5235cb64c1fa2658320278d5f1c19edf4dc32668711af2d07abb0afc','img_20f1f70a','image/png',64,48,2524,'20f1f70a5235cb64.png',1795262410.08);
INSERT INTO "images" VALUES('9fb7da8051bcdd429ffc57c46af438906afc1db0051440c9666e112ec3f5393b','img_9fb7da80','image/png',64,48,2514,'9fb7da8051bcdd42.png',1795262410.08);
INSERT INTO "images" VALUES('3c057eb65b65fe642cffa0be8b1c3d742a7d12fc56daf5c06f84fb33b2dc9f84','img_3c057eb6','image/png',64,48,196,'3c057eb65b65fe64.png',1.79526241060505795479e+09);
INSERT INTO "images" VALUES('aba8b9f29647473d4dd4d17225825fc2a53ddfa046f84fb9e21e6a3dd2df53a9','img_aba8b9f2','image/png',64,48,198,'aba8b9f29647473d.png',1.79526241060505795479e+09);
INSERT INTO "images" VALUES('dc5862863895e8e9b549714141a01936480ab2dbc5bd6c67637758514cb038d7','img_dc586286','image/png',64,48,4201,'dc5862863895e8e9.png',1.79526242121011590955e+09);
CREATE TABLE jobs (
  id               TEXT PRIMARY KEY,
  tool             TEXT NOT NULL,
  created_at       DOUBLE PRECISION NOT NULL,
  fingerprint      TEXT NOT NULL,       
  provider         TEXT NOT NULL,
  model            TEXT NOT NULL,
  endpoint         TEXT NOT NULL,
  prompt           TEXT NOT NULL,
  requested        INTEGER NOT NULL,
  lanes            INTEGER NOT NULL,
  steps            INTEGER NOT NULL,
  save_to          TEXT,
  warnings         TEXT NOT NULL,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  routes           TEXT NOT NULL,       
  status           TEXT NOT NULL,       
  returned         INTEGER NOT NULL DEFAULT 0,
  owner            TEXT                 
);
INSERT INTO "jobs" VALUES('job_49635285','edit_sequence',1795262400.0,'effe2fa73901cf9ee75f241926da8106e0fba0bc9f7d1ad673e89b20f8ec1962','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential','make it golden hour',3,1,1,'/home/you/Pictures','[]',0,'[]','done',3,NULL);
INSERT INTO "jobs" VALUES('job_8ac85085','edit_chain',1795262400.0,'8d8522098c87cf6b55408a7b60163c391a89d83ed071aff95c0c8afb6f650109','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit','warmer → film grain',2,1,2,NULL,'[]',0,'[]','done',2,NULL);
INSERT INTO "jobs" VALUES('job_7ae97162','edit_sequence',1795262400.0,'af464fb2bc2bf507b61c0551377773e0012ffc330de8153ed01fbf2d62b869fc','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential','warmer',1,1,1,NULL,'[]',0,'[]','done',1,'ann');
INSERT INTO "jobs" VALUES('job_7429069c','edit_sequence',1.7952660212101159096e+09,'5361af5de46d1f38382088863578622a5e73453140204a28e752a2320aa0be4d','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential','answer lost',2,1,1,NULL,'[]',0,'[]','uncertain',0,NULL);
INSERT INTO "jobs" VALUES('job_d4450d34','edit_sequence',1.79526603721011590955e+09,'3c7a6fea8b55865b388d89824a15acc8a98a53ba0cd5cdff01dff086228572e2','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential','refused [[emulate: moderated]]',2,1,1,NULL,'[]',0,'[]','failed',0,NULL);
INSERT INTO "jobs" VALUES('job_754e4cc8','edit_sequence',1.79526604764678502082e+09,'49eb330e66a1b5266a92ecb604b769a26094ad14e497a082ec202c74a89f434d','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential','cancelled',1,1,1,NULL,'[]',1,'[]','cancelled',0,NULL);
INSERT INTO "jobs" VALUES('job_88c808e5','edit_sequence',1.79526604764678502082e+09,'ab68f401d3c75758f911184e28626bb75749b5e12519135166e591537857f318','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential','running',2,1,1,NULL,'[]',0,'[]','running',0,NULL);
INSERT INTO "jobs" VALUES('job_c2da9c7b','edit_chain',1.79526604764678502082e+09,'4802bb67cc34c3b0b64f6387caaafe614f7f6383d54438e6c1894dde180b1b9c','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit','sepia → grain',2,1,2,NULL,'[]',0,'[]','queued',0,NULL);
CREATE TABLE predictions (
  id            TEXT PRIMARY KEY,
  job_id        TEXT NOT NULL,
  lane          INTEGER NOT NULL,
  step          INTEGER NOT NULL,
  after_id      TEXT,                   
  first_output  INTEGER NOT NULL,
  state         TEXT NOT NULL,
  provider      TEXT NOT NULL,
  endpoint      TEXT NOT NULL,
  operation     TEXT NOT NULL,
  prompt        TEXT NOT NULL,
  count         INTEGER NOT NULL,
  width         INTEGER,
  height        INTEGER,
  format        TEXT,
  inputs        TEXT NOT NULL,
  client_id     TEXT NOT NULL,
  variation     TEXT NOT NULL,
  quoted_usd    TEXT NOT NULL,
  quote_exact   INTEGER NOT NULL,
  reserved_usd  TEXT NOT NULL,          
  charged_usd   TEXT,
  ticket        TEXT,
  poll_url      TEXT,
  created_at    DOUBLE PRECISION NOT NULL,
  submitted_at  DOUBLE PRECISION,
  deadline_at   DOUBLE PRECISION,
  finished_at   DOUBLE PRECISION,
  due_at        DOUBLE PRECISION NOT NULL,
  attempts      INTEGER NOT NULL DEFAULT 0,
  fault         TEXT,
  lease         TEXT,
  lease_until   DOUBLE PRECISION NOT NULL DEFAULT 0
);
INSERT INTO "predictions" VALUES('job_49635285-0-0','job_49635285',0,0,NULL,1,'done','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','make it golden hour. Generate exactly 3 images.',3,2304,1728,NULL,'["img_566baaa8"]','afbe8941-9c0c-4f82-b393-f86bb58ec609','','0.096',1,'0.096','0.096','6a2b30897d2343ca9036e45d9b2e266a','http://127.0.0.1:36715/api/v1/model/prediction/6a2b30897d2343ca9036e45d9b2e266a',1795262400.0,1795262400.0,1795264200.0,1795262410.08,1795262415.58,1,NULL,NULL,0.0);
INSERT INTO "predictions" VALUES('job_8ac85085-0-0','job_8ac85085',0,0,NULL,1,'done','atlas','bytedance/seedream-v5.0-lite/edit','edit','warmer',1,2304,1728,NULL,'["img_2ab21109"]','c257318c-ebfe-4057-8ff2-4a113b52926b','','0.032',1,'0.032','0.032','c7fd80b86a734c8692c7373d56de08df','http://127.0.0.1:36715/api/v1/model/prediction/c7fd80b86a734c8692c7373d56de08df',1795262400.0,1795262400.0,1795264200.0,1.79526241060505795479e+09,1.7952624161050579548e+09,1,NULL,NULL,0.0);
INSERT INTO "predictions" VALUES('job_8ac85085-0-1','job_8ac85085',0,1,'job_8ac85085-0-0',2,'done','atlas','bytedance/seedream-v5.0-lite/edit','edit','film grain',1,2304,1728,NULL,'["job_8ac85085/1"]','e2f3c5a4-848a-448e-b6e9-cee9dd89a374','','0.032',1,'0.032','0.032','16688ad85d1e418fabe976d125e6b1bb','http://127.0.0.1:36715/api/v1/model/prediction/16688ad85d1e418fabe976d125e6b1bb',1795262400.0,1.79526241060505795479e+09,1.79526421060505795481e+09,1.79526242121011590955e+09,1.79526602521011590957e+09,1,NULL,NULL,0.0);
INSERT INTO "predictions" VALUES('job_7ae97162-0-0','job_7ae97162',0,0,NULL,1,'done','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','warmer',1,2304,1728,NULL,'["img_566baaa8"]','6c6ae81b-df58-4778-8442-74806a38bc2d','','0.032',1,'0.032','0.032','e5b7028b526040dfb07ffa7a4dcebc21','http://127.0.0.1:36715/api/v1/model/prediction/e5b7028b526040dfb07ffa7a4dcebc21',1795262400.0,1795262400.0,1795264200.0,1.79526241060505795479e+09,1.7952624161050579548e+09,1,NULL,NULL,0.0);
INSERT INTO "predictions" VALUES('job_7429069c-0-0','job_7429069c',0,0,NULL,1,'uncertain','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','answer lost. Generate exactly 2 images.',2,2304,1728,NULL,'["img_566baaa8"]','d601a055-aa32-49c0-94db-db5947d31a68','','0.064',1,'0.064',NULL,NULL,NULL,1.7952660212101159096e+09,1.7952660212101159096e+09,1.79526782121011590958e+09,1.79526603721011590955e+09,1.79526603721011590955e+09,4,'{"kind": "uncertain", "message": "The answer to a paid request was lost, and Atlas Cloud could not say what became of it. It is not sent again by itself.", "retryable": true, "request_id": null}',NULL,0.0);
INSERT INTO "predictions" VALUES('job_d4450d34-0-0','job_d4450d34',0,0,NULL,1,'failed','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','refused [[emulate: moderated]]. Generate exactly 2 images.',2,2304,1728,NULL,'["img_566baaa8"]','9ac3945a-49b8-4083-a1f5-5f2cbe73ce9b','','0.064',1,'0',NULL,'f3cb40ccc21e4fe3abbbc41ac241e130','http://127.0.0.1:36715/api/v1/model/prediction/f3cb40ccc21e4fe3abbbc41ac241e130',1.79526603721011590955e+09,1.79526603721011590955e+09,1.79526783721011590957e+09,1.79526604764678502082e+09,1.79526604764678502082e+09,0,'{"kind": "moderated", "message": "The provider reports the prediction as \"failed\": \"The request was rejected by the content safety policy.\".", "retryable": false, "request_id": null}',NULL,0.0);
INSERT INTO "predictions" VALUES('job_754e4cc8-0-0','job_754e4cc8',0,0,NULL,1,'cancelled','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','cancelled',1,2304,1728,NULL,'["img_566baaa8"]','cdf9f61d-ae65-4f72-b4dd-a3291a1153dc','','0.032',1,'0',NULL,NULL,NULL,1.79526604764678502082e+09,NULL,NULL,1.79526604764678502082e+09,1.79526604764678502082e+09,0,'{"kind": "cancelled", "message": "Cancelled before it was submitted.", "retryable": false, "request_id": null}',NULL,0.0);
INSERT INTO "predictions" VALUES('job_88c808e5-0-0','job_88c808e5',0,0,NULL,1,'running','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','running. Generate exactly 2 images.',2,2304,1728,NULL,'["img_566baaa8"]','1175a985-9c67-4b0e-a997-303f876fb4e6','','0.064',1,'0.064',NULL,'f270147a82b842ce99921de48f41d581','http://127.0.0.1:36715/api/v1/model/prediction/f270147a82b842ce99921de48f41d581',1.79526604764678502082e+09,1.79526604764678502082e+09,1.7952678476467850208e+09,NULL,1.79526605520678496363e+09,0,NULL,NULL,0.0);
INSERT INTO "predictions" VALUES('job_c2da9c7b-0-0','job_c2da9c7b',0,0,NULL,1,'queued','atlas','bytedance/seedream-v5.0-lite/edit','edit','sepia',1,2304,1728,NULL,'["img_2ab21109"]','f989a60a-413f-4ef6-9542-8f02ed84c6e5','','0.032',1,'0.032',NULL,NULL,NULL,1.79526604764678502082e+09,NULL,NULL,NULL,1.79526604764678502082e+09,0,NULL,NULL,0.0);
INSERT INTO "predictions" VALUES('job_c2da9c7b-0-1','job_c2da9c7b',0,1,'job_c2da9c7b-0-0',2,'waiting','atlas','bytedance/seedream-v5.0-lite/edit','edit','grain',1,2304,1728,NULL,'["job_c2da9c7b/1"]','92dea21c-486f-46b2-89be-0f12b7a5fdee','','0.032',1,'0.032',NULL,NULL,NULL,1.79526604764678502082e+09,NULL,NULL,NULL,1.79526604764678502082e+09,0,NULL,NULL,0.0);
CREATE INDEX jobs_by_time ON jobs (created_at);
CREATE INDEX jobs_by_owner ON jobs (owner, created_at);
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint, status);
CREATE INDEX predictions_by_job ON predictions (job_id, state);
CREATE INDEX predictions_due ON predictions (state, due_at);
CREATE INDEX predictions_after ON predictions (after_id);
CREATE INDEX predictions_by_spending ON predictions (COALESCE(submitted_at, created_at));
CREATE INDEX frames_by_image ON frames (sha256);
CREATE INDEX frames_by_prediction ON frames (prediction_id);
CREATE INDEX frames_by_time ON frames (created_at);
COMMIT;
PRAGMA user_version = 1;
