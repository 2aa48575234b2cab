BEGIN TRANSACTION;
CREATE TABLE boot (id TEXT NOT NULL);
INSERT INTO "boot" VALUES('ca1b9d78-c9d8-44a2-81cf-1ef3c250d21d');
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
CREATE TABLE file_secret (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  secret TEXT NOT NULL
);
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
  created_at     DOUBLE PRECISION NOT NULL, layer TEXT,
  PRIMARY KEY (job_id, n)
);
INSERT INTO "frames" VALUES('job_49635285',1,'job_49635285-0-0','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/1.png',1795348810.08,'20f1f70a5235cb64c1fa2658320278d5f1c19edf4dc32668711af2d07abb0afc','/home/you/Pictures/job_49635285-01.png','["img_566baaa8"]',NULL,0,1795262410.08,NULL);
INSERT INTO "frames" VALUES('job_49635285',2,'job_49635285-0-0','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/2.png',1795348810.08,'9fb7da8051bcdd429ffc57c46af438906afc1db0051440c9666e112ec3f5393b','/home/you/Pictures/job_49635285-02.png','["img_566baaa8"]',NULL,0,1795262410.08,NULL);
INSERT INTO "frames" VALUES('job_49635285',3,'job_49635285-0-0','http://127.0.0.1:36715/_results/6a2b30897d2343ca9036e45d9b2e266a/3.png',1795348810.08,'f2f556d81fa3911aeefb3f72acdc85d4bde44d41881ece114a207a3259eba640','/home/you/Pictures/job_49635285-03.png','["img_566baaa8"]',NULL,0,1795262410.08,NULL);
INSERT INTO "frames" VALUES('job_8ac85085',1,'job_8ac85085-0-0','http://127.0.0.1:36715/_results/c7fd80b86a734c8692c7373d56de08df/1.png',1.79534881060505795485e+09,'3c057eb65b65fe642cffa0be8b1c3d742a7d12fc56daf5c06f84fb33b2dc9f84',NULL,'["img_2ab21109"]',NULL,0,1.79526241060505795479e+09,NULL);
INSERT INTO "frames" VALUES('job_7ae97162',1,'job_7ae97162-0-0','http://127.0.0.1:36715/_results/e5b7028b526040dfb07ffa7a4dcebc21/1.png',1.79534881060505795485e+09,'aba8b9f29647473d4dd4d17225825fc2a53ddfa046f84fb9e21e6a3dd2df53a9',NULL,'["img_566baaa8"]',NULL,0,1.79526241060505795479e+09,NULL);
INSERT INTO "frames" VALUES('job_8ac85085',2,'job_8ac85085-0-1','http://127.0.0.1:36715/_results/16688ad85d1e418fabe976d125e6b1bb/1.png',1.79534882121011590957e+09,'dc5862863895e8e9b549714141a01936480ab2dbc5bd6c67637758514cb038d7',NULL,'["job_8ac85085/1"]',NULL,0,1.79526242121011590955e+09,NULL);
INSERT INTO "frames" VALUES('job_2e26368d',1,'job_2e26368d-0-0',NULL,NULL,'6ba2ca3d10d07aab7db056d48663e80df643863f27792e342323085a4a9fe5c6',NULL,'["img_95290152", "img_95290152"]',NULL,0,1.7952944000557019711e+09,NULL);
INSERT INTO "frames" VALUES('job_2e26368d',2,'job_2e26368d-0-1',NULL,NULL,'109d1d552d66832793e0d58ca6e804c5e45853ba6ffd0de890c186eb1b1f444a',NULL,'["job_2e26368d/1", "img_95290152"]',NULL,0,1.79529440075241208075e+09,NULL);
INSERT INTO "frames" VALUES('job_2e26368d',3,'job_2e26368d-1-0',NULL,NULL,'ad926d9112bc662481740b87d2bbe756f2c37c8102bddad2235b86ab06b74d09',NULL,'["img_fc898c68", "img_95290152"]',NULL,0,1.79529440109090304374e+09,NULL);
INSERT INTO "frames" VALUES('job_2e26368d',4,'job_2e26368d-1-1',NULL,NULL,'f3a79c7c0f558400eb0e67b2bfcf44b101afca1c0d406417cc74fd2b5785f41a',NULL,'["job_2e26368d/3", "img_95290152"]',NULL,0,1.79529440141207909586e+09,NULL);
INSERT INTO "frames" VALUES('job_cd4d93de',1,'job_cd4d93de-0-0',NULL,NULL,'423ec90d35ad04f0a9d41964b8064c5cf8c9ded264a4fa02487d128ef057d4b4',NULL,'[]',NULL,0,1.79529440835742807387e+09,NULL);
INSERT INTO "frames" VALUES('job_cd4d93de',2,'job_cd4d93de-0-0',NULL,NULL,'3579668ed8840503ce0062afeb460eb72ade3751b12c9f0ee67d3c591ed434bc',NULL,'[]',NULL,0,1.79529440835742807387e+09,NULL);
INSERT INTO "frames" VALUES('job_ac37f1f1',1,'job_ac37f1f1-0-0',NULL,NULL,'8e31b5a7a5f8b63d09bc261f62b2d8ca969bf6f78ba9d93f0d65327a67979c8c',NULL,'[]',NULL,0,1.79530409204487204554e+09,NULL);
INSERT INTO "frames" VALUES('job_ac37f1f1',2,'job_ac37f1f1-0-0',NULL,NULL,'29031927e80d1f63f8bc54bb3efa656dd0a6f1082fd6c5aef8b0eede8ec55aa6',NULL,'[]',NULL,0,1.79530409204487204554e+09,NULL);
INSERT INTO "frames" VALUES('job_010425db',1,'job_010425db-0-0',NULL,NULL,'6a1cd653759bede9a28c1b7dfb94d948631cefacaa5b57c6244ed2ab3b856f6d',NULL,'["img_95290152","img_fc898c68"]',NULL,0,1.79531739392040300368e+09,NULL);
INSERT INTO "frames" VALUES('job_010425db',2,'job_010425db-0-1',NULL,NULL,'a4da0d9be07a1eefbd200aa37b2b95bc0537cfa97f3de7f6769ea631fbd3e968',NULL,'["job_010425db/1","img_fc898c68"]',NULL,0,1.79531739399822592734e+09,NULL);
INSERT INTO "frames" VALUES('job_9204f18f',1,'job_9204f18f-0-0',NULL,NULL,'8891e3bf5c8910fc41a532f5c0ab0babd246a33627d6d37406f72095ca52f8da',NULL,'["img_95290152"]',NULL,0,1.79531739463587498668e+09,'{"z_index":0,"name":"","description":"","box":null}');
INSERT INTO "frames" VALUES('job_9204f18f',2,'job_9204f18f-0-0',NULL,NULL,'9ffd9edfdf1ee72ba215ab068efcd6ec4572fe7987196ac0b01fb022a7966936',NULL,'["img_95290152"]',NULL,0,1.79531739463587498668e+09,'{"z_index":1,"name":"rust middle","description":"The rust part in the middle, 406×335 px, found by its colour.","box":[78,54,484,389]}');
INSERT INTO "frames" VALUES('job_70c261e9',1,'job_70c261e9-0-0',NULL,NULL,'5a6ea6a3816045ccb1c0c5c5f99067981422c4ac4fd96fb5ecc244d708fa219c',NULL,'["img_0c596b4a","img_2f02dbc6"]',NULL,0,1.79533123986838507647e+09,NULL);
INSERT INTO "frames" VALUES('job_70c261e9',3,'job_70c261e9-1-0',NULL,NULL,'6f0f52b003a7f9b1c1101816d238c6379add8a0191b183e29f9734e5b5579edf',NULL,'["img_2f02dbc6","img_0c596b4a"]',NULL,0,1.79533123986860394479e+09,NULL);
INSERT INTO "frames" VALUES('job_70c261e9',4,'job_70c261e9-1-1',NULL,NULL,'5395586378c5ee6bafe3d4bf8990bcd7352a806779209f525c095d1a5a65b918',NULL,'["job_70c261e9/3","img_0c596b4a","img_2f02dbc6"]',NULL,0,1.7953312400685269832e+09,NULL);
INSERT INTO "frames" VALUES('job_70c261e9',2,'job_70c261e9-0-1',NULL,NULL,'1adec9da9d5184031fb951a26b61ddd1298da39fa3e550099a1b1e58e17bb01c',NULL,'["job_70c261e9/1","img_0c596b4a","img_2f02dbc6"]',NULL,0,1.79533124006871891019e+09,NULL);
INSERT INTO "frames" VALUES('job_da257328',1,'job_da257328-0-0',NULL,NULL,'9f3880fc0605afa0b28f35542b513c8efcc6d5aa5f2c0644a7f332980522e5d2','/home/you/Pictures/job_da257328-01.png','[]',NULL,0,1795331245.95467,NULL);
INSERT INTO "frames" VALUES('job_da257328',2,'job_da257328-0-0',NULL,NULL,'1580ab00ffc90cb47334a8027e9d14cf23348c0f6e83b3b66956aa8ec4ed6f95','/home/you/Pictures/job_da257328-02.png','[]',NULL,0,1795331245.95467,NULL);
CREATE TABLE holders (
  sha256 TEXT NOT NULL,
  owner  TEXT NOT NULL,                 
  PRIMARY KEY (sha256, owner)
);
INSERT INTO "holders" VALUES('566baaa8e2052c6326adc335fbe8e1bf4f79aa10f7985aa8ae817c359212a563','ann');
INSERT INTO "holders" VALUES('2ab211094b96ca919c05a4509c0113f18227f7c483a58c6d30ddd578d18c2176','ann');
INSERT INTO "holders" VALUES('952901529a5cdf33c3d31cc5058809e8e304216a206565eca8c4261fea2afd8a','ann');
INSERT INTO "holders" VALUES('0c596b4aa4527400c0f6c5cd2328730281c42c01c500b0b666c4c36e7079ed20','bob');
INSERT INTO "holders" VALUES('2f02dbc6db8ad76f879201cc578e5b2408ea568cf6bb8e9f5d6993850acfddb0','bob');
CREATE TABLE images (
  sha256     TEXT PRIMARY KEY,
  handle     TEXT NOT NULL UNIQUE,
  mime_type  TEXT NOT NULL,
  width      INTEGER NOT NULL,
  height     INTEGER NOT NULL,
  bytes      INTEGER NOT NULL,
  file       TEXT NOT NULL,             
  created_at DOUBLE PRECISION NOT NULL
, pruned_at DOUBLE PRECISION);
INSERT INTO "images" VALUES('566baaa8e2052c6326adc335fbe8e1bf4f79aa10f7985aa8ae817c359212a563','img_566baaa8','image/png',64,48,137,'566baaa8e2052c63.png',1795262400.0,NULL);
INSERT INTO "images" VALUES('2ab211094b96ca919c05a4509c0113f18227f7c483a58c6d30ddd578d18c2176','img_2ab21109','image/png',64,48,138,'2ab211094b96ca91.png',1795262400.0,NULL);
INSERT INTO "images" VALUES('f2f556d81fa3911aeefb3f72acdc85d4bde44d41881ece114a207a3259eba640','img_f2f556d8','image/png',64,48,2520,'f2f556d81fa3911a.png',1795262410.08,NULL);
INSERT INTO "images" VALUES('20f1f70a5235cb64c1fa2658320278d5f1c19edf4dc32668711af2d07abb0afc','img_20f1f70a','image/png',64,48,2524,'20f1f70a5235cb64.png',1795262410.08,NULL);
INSERT INTO "images" VALUES('9fb7da8051bcdd429ffc57c46af438906afc1db0051440c9666e112ec3f5393b','img_9fb7da80','image/png',64,48,2514,'9fb7da8051bcdd42.png',1795262410.08,NULL);
INSERT INTO "images" VALUES('3c057eb65b65fe642cffa0be8b1c3d742a7d12fc56daf5c06f84fb33b2dc9f84','img_3c057eb6','image/png',64,48,196,'3c057eb65b65fe64.png',1.79526241060505795479e+09,NULL);
INSERT INTO "images" VALUES('aba8b9f29647473d4dd4d17225825fc2a53ddfa046f84fb9e21e6a3dd2df53a9','img_aba8b9f2','image/png',64,48,198,'aba8b9f29647473d.png',1.79526241060505795479e+09,NULL);
INSERT INTO "images" VALUES('dc5862863895e8e9b549714141a01936480ab2dbc5bd6c67637758514cb038d7','img_dc586286','image/png',64,48,4201,'dc5862863895e8e9.png',1.79526242121011590955e+09,NULL);
INSERT INTO "images" VALUES('952901529a5cdf33c3d31cc5058809e8e304216a206565eca8c4261fea2afd8a','img_95290152','image/jpeg',600,400,64474,'952901529a5cdf33.jpg',1.79529439915530800815e+09,NULL);
INSERT INTO "images" VALUES('fc898c685c70f36d349c985193d1121103966bad43aa69cb3d7114cb0430150f','img_fc898c68','image/jpeg',451,300,30985,'fc898c685c70f36d.jpg',1795294399.2279,NULL);
INSERT INTO "images" VALUES('6ba2ca3d10d07aab7db056d48663e80df643863f27792e342323085a4a9fe5c6','img_6ba2ca3d','image/png',600,400,412420,'6ba2ca3d10d07aab.png',1.79529440004375195503e+09,NULL);
INSERT INTO "images" VALUES('109d1d552d66832793e0d58ca6e804c5e45853ba6ffd0de890c186eb1b1f444a','img_109d1d55','image/png',600,400,583606,'109d1d552d668327.png',1.79529440073978590968e+09,NULL);
INSERT INTO "images" VALUES('ad926d9112bc662481740b87d2bbe756f2c37c8102bddad2235b86ab06b74d09','img_ad926d91','image/png',451,300,235355,'ad926d9112bc6624.png',1.79529440108785295479e+09,NULL);
INSERT INTO "images" VALUES('f3a79c7c0f558400eb0e67b2bfcf44b101afca1c0d406417cc74fd2b5785f41a','img_f3a79c7c','image/png',451,300,341912,'f3a79c7c0f558400.png',1.79529440140779805181e+09,NULL);
INSERT INTO "images" VALUES('423ec90d35ad04f0a9d41964b8064c5cf8c9ded264a4fa02487d128ef057d4b4','img_423ec90d','image/png',1024,1024,235792,'423ec90d35ad04f0.png',1.79529440819576096535e+09,NULL);
INSERT INTO "images" VALUES('3579668ed8840503ce0062afeb460eb72ade3751b12c9f0ee67d3c591ed434bc','img_3579668e','image/png',1024,1024,260797,'3579668ed8840503.png',1.79529440832214498514e+09,NULL);
INSERT INTO "images" VALUES('8e31b5a7a5f8b63d09bc261f62b2d8ca969bf6f78ba9d93f0d65327a67979c8c','img_8e31b5a7','image/png',1024,1024,164867,'8e31b5a7a5f8b63d.png',1.79530409201718711849e+09,NULL);
INSERT INTO "images" VALUES('29031927e80d1f63f8bc54bb3efa656dd0a6f1082fd6c5aef8b0eede8ec55aa6','img_29031927','image/png',1024,1024,144573,'29031927e80d1f63.png',1795304092.04348,NULL);
INSERT INTO "images" VALUES('6a1cd653759bede9a28c1b7dfb94d948631cefacaa5b57c6244ed2ab3b856f6d','img_6a1cd653','image/jpeg',512,384,56673,'6a1cd653759bede9.jpg',1.79531739391633296011e+09,NULL);
INSERT INTO "images" VALUES('a4da0d9be07a1eefbd200aa37b2b95bc0537cfa97f3de7f6769ea631fbd3e968','img_a4da0d9b','image/jpeg',512,384,148053,'a4da0d9be07a1eef.jpg',1.7953173939936850071e+09,NULL);
INSERT INTO "images" VALUES('8891e3bf5c8910fc41a532f5c0ab0babd246a33627d6d37406f72095ca52f8da','img_8891e3bf','image/png',600,400,291572,'8891e3bf5c8910fc.png',1.79531739460397791866e+09,NULL);
INSERT INTO "images" VALUES('9ffd9edfdf1ee72ba215ab068efcd6ec4572fe7987196ac0b01fb022a7966936','img_9ffd9edf','image/png',406,335,267640,'9ffd9edfdf1ee72b.png',1.79531739462746191019e+09,NULL);
INSERT INTO "images" VALUES('0c596b4aa4527400c0f6c5cd2328730281c42c01c500b0b666c4c36e7079ed20','img_0c596b4a','image/png',96,64,208,'0c596b4aa4527400.png',1.79533123916386294369e+09,NULL);
INSERT INTO "images" VALUES('2f02dbc6db8ad76f879201cc578e5b2408ea568cf6bb8e9f5d6993850acfddb0','img_2f02dbc6','image/png',96,64,210,'2f02dbc6db8ad76f.png',1.79533123916386294369e+09,NULL);
INSERT INTO "images" VALUES('5a6ea6a3816045ccb1c0c5c5f99067981422c4ac4fd96fb5ecc244d708fa219c','img_5a6ea6a3','image/png',320,208,1351,'5a6ea6a3816045cc.png',1795331239.79513,NULL);
INSERT INTO "images" VALUES('6f0f52b003a7f9b1c1101816d238c6379add8a0191b183e29f9734e5b5579edf','img_6f0f52b0','image/png',320,208,1351,'6f0f52b003a7f9b1.png',1795331239.79787,NULL);
INSERT INTO "images" VALUES('5395586378c5ee6bafe3d4bf8990bcd7352a806779209f525c095d1a5a65b918','img_53955863','image/png',320,208,95257,'5395586378c5ee6b.png',1.79533124004815411566e+09,NULL);
INSERT INTO "images" VALUES('1adec9da9d5184031fb951a26b61ddd1298da39fa3e550099a1b1e58e17bb01c','img_1adec9da','image/png',320,208,94500,'1adec9da9d518403.png',1.79533124004869699477e+09,NULL);
INSERT INTO "images" VALUES('9f3880fc0605afa0b28f35542b513c8efcc6d5aa5f2c0644a7f332980522e5d2','img_9f3880fc','image/png',1024,1024,227838,'9f3880fc0605afa0.png',1.79533124582095098497e+09,NULL);
INSERT INTO "images" VALUES('1580ab00ffc90cb47334a8027e9d14cf23348c0f6e83b3b66956aa8ec4ed6f95','img_1580ab00','image/png',1024,1024,249664,'1580ab00ffc90cb4.png',1.79533124594388508797e+09,NULL);
CREATE TABLE jobs (
  id               TEXT PRIMARY KEY,
  created_at       DOUBLE PRECISION NOT NULL,
  fingerprint      TEXT NOT NULL,       
  provider         TEXT NOT NULL,
  model            TEXT NOT NULL,
  endpoint         TEXT NOT NULL,
  save_to          TEXT,
  warnings         TEXT NOT NULL,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  routes           TEXT NOT NULL,       
  status           TEXT NOT NULL,       
  returned         INTEGER NOT NULL DEFAULT 0,
  owner            TEXT                 
, ended_at DOUBLE PRECISION, ended_mono DOUBLE PRECISION, page_size INTEGER, request TEXT NOT NULL DEFAULT '{}', live_offer TEXT, sources TEXT);
INSERT INTO "jobs" VALUES('job_49635285',1795262400.0,'effe2fa73901cf9ee75f241926da8106e0fba0bc9f7d1ad673e89b20f8ec1962','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential','/home/you/Pictures','[]',0,'[]','done',3,NULL,NULL,NULL,NULL,'{"tool":"edit_sequence","prompts":["make it golden hour"],"images":["img_566baaa8"],"references":[],"count":3,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_8ac85085',1795262400.0,'8d8522098c87cf6b55408a7b60163c391a89d83ed071aff95c0c8afb6f650109','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit',NULL,'[]',0,'[]','done',2,NULL,NULL,NULL,NULL,'{"tool":"edit_chain","prompts":["warmer","film grain"],"images":["img_2ab21109"],"references":[],"count":1,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_7ae97162',1795262400.0,'af464fb2bc2bf507b61c0551377773e0012ffc330de8153ed01fbf2d62b869fc','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential',NULL,'[]',0,'[]','done',1,'ann',NULL,NULL,NULL,'{"tool":"edit_sequence","prompts":["warmer"],"images":["img_566baaa8"],"references":[],"count":1,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_7429069c',1.7952660212101159096e+09,'5361af5de46d1f38382088863578622a5e73453140204a28e752a2320aa0be4d','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential',NULL,'[]',0,'[]','uncertain',0,NULL,NULL,NULL,NULL,'{"tool":"edit_sequence","prompts":["answer lost"],"images":["img_566baaa8"],"references":[],"count":2,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_d4450d34',1.79526603721011590955e+09,'3c7a6fea8b55865b388d89824a15acc8a98a53ba0cd5cdff01dff086228572e2','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential',NULL,'[]',0,'[]','failed',0,NULL,NULL,NULL,NULL,'{"tool":"edit_sequence","prompts":["refused [[emulate: moderated]]"],"images":["img_566baaa8"],"references":[],"count":2,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_754e4cc8',1.79526604764678502082e+09,'49eb330e66a1b5266a92ecb604b769a26094ad14e497a082ec202c74a89f434d','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential',NULL,'[]',1,'[]','cancelled',0,NULL,NULL,NULL,NULL,'{"tool":"edit_sequence","prompts":["cancelled"],"images":["img_566baaa8"],"references":[],"count":1,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_88c808e5',1.79526604764678502082e+09,'ab68f401d3c75758f911184e28626bb75749b5e12519135166e591537857f318','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit-sequential',NULL,'[]',0,'[]','running',0,NULL,NULL,NULL,NULL,'{"tool":"edit_sequence","prompts":["running"],"images":["img_566baaa8"],"references":[],"count":2,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_c2da9c7b',1.79526604764678502082e+09,'4802bb67cc34c3b0b64f6387caaafe614f7f6383d54438e6c1894dde180b1b9c','atlas','seedream-5.0-lite','bytedance/seedream-v5.0-lite/edit',NULL,'[]',0,'[]','queued',0,NULL,NULL,NULL,NULL,'{"tool":"edit_chain","prompts":["sepia","grain"],"images":["img_2ab21109"],"references":[],"count":1,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_2e26368d',1.79529439922918510434e+09,'d4e5376d94954dd39bfa069d766717a5fd7017da47df3668618b6813089dbb74','draft','draft','draft/edit',NULL,'["Drawn by the offline preview engine, not by Seedream."]',0,'[]','done',4,NULL,1.79529440141706490515e+09,25225.105540341,NULL,'{"tool":"edit_chain","prompts":["warmer → golden","film grain"],"images":["img_95290152","img_fc898c68"],"references":["img_95290152"],"count":1,"format":"png"}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_cd4d93de',1795294399.23281,'362f71ac9bcc4f654ab59885a57ed9023ca73f5b929b6fd77e67b80857430392','draft','draft','draft/generate-sequential',NULL,'["Drawn by the offline preview engine, not by Seedream."]',0,'[]','done',2,NULL,1.79529440836463904376e+09,25232.053113679,NULL,'{"tool":"generate_sequence","prompts":["four seasons of a valley"],"images":[],"references":[],"count":2,"format":null}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_ac37f1f1',1.79530409080177211765e+09,'5d04452cdd2493a21656239472220a70fb7fdd63d4fe5374c6f88c31ee85bc76','draft','draft','draft/generate-sequential',NULL,'["Drawn by the offline preview engine, not by Seedream.", "Not understood by the preview engine: \"teapots\", \"glaze\""]',0,'[]','done',2,NULL,1795304092.04759,34915.736067218,NULL,'{"tool":"generate_sequence","prompts":["two teapots, one glaze"],"images":[],"references":[],"count":2,"model":"draft","provider":"draft","size":"1K","format":"png"}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_010425db',1.79531739374694800375e+09,'391fd1b89fdad97e3a567acfa7d6f8c41de67b2e5862a9d8760ade0de64f122b','draft','draft','draft/edit',NULL,'["Drawn by the offline preview engine, not by Seedream."]',0,'[]','done',2,NULL,1.79531739400381898886e+09,48217.692299064,NULL,'{"tool":"edit_chain","prompts":["golden hour","film grain"],"images":["img_95290152"],"references":["img_fc898c68"],"count":1,"model":null,"provider":null,"size":"512x384","format":"jpeg","params":{"seed":7}}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_9204f18f',1.79531739402849793438e+09,'6c891c4826794f2ed35ddadd1db4f05db9ae526b186bf6ae62787e41fa37c040','draft','draft','draft/layers',NULL,'["Drawn by the offline preview engine, not by Seedream.", "The background is not plain: the offline engine guesses the subject by its colours."]',0,'[]','done',2,'ann',1.79531739464079689982e+09,48218.329276917,NULL,'{"tool":"edit_sequence","prompts":["take it apart"],"images":["img_95290152"],"references":[],"count":1,"model":null,"provider":null,"size":null,"format":null,"params":{"layers":true}}',NULL,NULL);
INSERT INTO "jobs" VALUES('job_70c261e9',1.79533123920916295049e+09,'299600485f14ea8fa16fb8f6b504fab59868dc841ccf7c2099b5f4f442e8f1cc','draft','draft','draft/edit',NULL,'["Drawn by the offline preview engine, not by Seedream.", "Not understood by the preview engine: \"calm water\""]',0,'[]','done',4,'bob',1.79533124008019590381e+09,62063.768675913,NULL,'{"tool":"edit_chain","prompts":["warmer","film grain"],"images":["img_0c596b4a","img_2f02dbc6"],"references":[],"count":1,"model":null,"provider":"draft","size":null,"format":null,"params":null,"rows":null,"look":{"name":"sea","version":1,"words":"calm water","images":["img_0c596b4a","img_2f02dbc6"]},"retry_of":null}',NULL,'["img_0c596b4a","img_2f02dbc6"]');
INSERT INTO "jobs" VALUES('job_da257328',1.79533124010996699339e+09,'e00d194469b823fcbc34fbada73656b70302c07e381a87eecfc3fe0facca1540','draft','draft','draft/generate-sequential','/home/you/Pictures','["Drawn by the offline preview engine, not by Seedream."]',0,'[]','done',2,NULL,1.79533124601684188842e+09,62069.705319656,NULL,'{"tool":"generate_sequence","prompts":["four seasons"],"images":[],"references":[],"count":2,"model":null,"provider":"draft","size":null,"format":null,"params":null,"rows":null,"look":null,"retry_of":null}',NULL,'[]');
CREATE TABLE looks (
  owner      TEXT NOT NULL,
  name       TEXT NOT NULL,
  version    INTEGER NOT NULL,
  words      TEXT NOT NULL,
  images     TEXT NOT NULL,             -- handles, as a JSON list
  removed    INTEGER NOT NULL DEFAULT 0,
  created_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (owner, name, version)
);
INSERT INTO "looks" VALUES('bob','sea',1,'calm water','["img_0c596b4a", "img_2f02dbc6"]',0,1.79533123917245697976e+09);
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
, created_mono DOUBLE PRECISION, submitted_mono DOUBLE PRECISION, looked_mono DOUBLE PRECISION, sent_urls TEXT, charge_is_estimate INTEGER NOT NULL DEFAULT 0, size TEXT);
INSERT INTO "predictions" VALUES('job_49635285-0-0','job_49635285',0,0,NULL,1,'done','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','afbe8941-9c0c-4f82-b393-f86bb58ec609','','0.096',1,'0.096','0.096','6a2b30897d2343ca9036e45d9b2e266a','http://127.0.0.1:36715/api/v1/model/prediction/6a2b30897d2343ca9036e45d9b2e266a',1795262400.0,1795262400.0,NULL,1795262410.08,0.0,1,NULL,NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_8ac85085-0-0','job_8ac85085',0,0,NULL,1,'done','atlas','bytedance/seedream-v5.0-lite/edit','edit','c257318c-ebfe-4057-8ff2-4a113b52926b','','0.032',1,'0.032','0.032','c7fd80b86a734c8692c7373d56de08df','http://127.0.0.1:36715/api/v1/model/prediction/c7fd80b86a734c8692c7373d56de08df',1795262400.0,1795262400.0,NULL,1.79526241060505795479e+09,0.0,1,NULL,NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_8ac85085-0-1','job_8ac85085',0,1,'job_8ac85085-0-0',2,'done','atlas','bytedance/seedream-v5.0-lite/edit','edit','e2f3c5a4-848a-448e-b6e9-cee9dd89a374','','0.032',1,'0.032','0.032','16688ad85d1e418fabe976d125e6b1bb','http://127.0.0.1:36715/api/v1/model/prediction/16688ad85d1e418fabe976d125e6b1bb',1795262400.0,1.79526241060505795479e+09,NULL,1.79526242121011590955e+09,0.0,1,NULL,NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_7ae97162-0-0','job_7ae97162',0,0,NULL,1,'done','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','6c6ae81b-df58-4778-8442-74806a38bc2d','','0.032',1,'0.032','0.032','e5b7028b526040dfb07ffa7a4dcebc21','http://127.0.0.1:36715/api/v1/model/prediction/e5b7028b526040dfb07ffa7a4dcebc21',1795262400.0,1795262400.0,NULL,1.79526241060505795479e+09,0.0,1,NULL,NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_7429069c-0-0','job_7429069c',0,0,NULL,1,'uncertain','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','d601a055-aa32-49c0-94db-db5947d31a68','','0.064',1,'0.064',NULL,NULL,NULL,1.7952660212101159096e+09,1.7952660212101159096e+09,NULL,1.79526603721011590955e+09,0.0,4,'{"kind": "uncertain", "message": "The answer to a paid request was lost, and Atlas Cloud could not say what became of it. It is not sent again by itself.", "retryable": true, "request_id": null}',NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_d4450d34-0-0','job_d4450d34',0,0,NULL,1,'failed','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','9ac3945a-49b8-4083-a1f5-5f2cbe73ce9b','','0.064',1,'0',NULL,'f3cb40ccc21e4fe3abbbc41ac241e130','http://127.0.0.1:36715/api/v1/model/prediction/f3cb40ccc21e4fe3abbbc41ac241e130',1.79526603721011590955e+09,1.79526603721011590955e+09,NULL,1.79526604764678502082e+09,0.0,0,'{"kind": "moderated", "message": "The provider reports the prediction as \"failed\": \"The request was rejected by the content safety policy.\".", "retryable": false, "request_id": null}',NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_754e4cc8-0-0','job_754e4cc8',0,0,NULL,1,'cancelled','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','cdf9f61d-ae65-4f72-b4dd-a3291a1153dc','','0.032',1,'0',NULL,NULL,NULL,1.79526604764678502082e+09,NULL,NULL,1.79526604764678502082e+09,0.0,0,'{"kind": "cancelled", "message": "Cancelled before it was submitted.", "retryable": false, "request_id": null}',NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_88c808e5-0-0','job_88c808e5',0,0,NULL,1,'running','atlas','bytedance/seedream-v5.0-lite/edit-sequential','edit-sequential','1175a985-9c67-4b0e-a997-303f876fb4e6','','0.064',1,'0.064',NULL,'f270147a82b842ce99921de48f41d581','http://127.0.0.1:36715/api/v1/model/prediction/f270147a82b842ce99921de48f41d581',1.79526604764678502082e+09,1.79526604764678502082e+09,NULL,NULL,0.0,0,NULL,NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_c2da9c7b-0-0','job_c2da9c7b',0,0,NULL,1,'queued','atlas','bytedance/seedream-v5.0-lite/edit','edit','f989a60a-413f-4ef6-9542-8f02ed84c6e5','','0.032',1,'0.032',NULL,NULL,NULL,1.79526604764678502082e+09,NULL,NULL,NULL,0.0,0,NULL,NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_c2da9c7b-0-1','job_c2da9c7b',0,1,'job_c2da9c7b-0-0',2,'waiting','atlas','bytedance/seedream-v5.0-lite/edit','edit','92dea21c-486f-46b2-89be-0f12b7a5fdee','','0.032',1,'0.032',NULL,NULL,NULL,1.79526604764678502082e+09,NULL,NULL,NULL,0.0,0,NULL,NULL,0.0,NULL,NULL,NULL,NULL,0,'[2304,1728]');
INSERT INTO "predictions" VALUES('job_2e26368d-0-0','job_2e26368d',0,0,NULL,1,'done','draft','draft/edit','edit','0cd6eb0d-21ca-45bc-8601-e582ac69aafb','','0',0,'0','0',NULL,NULL,1.79529439922939205174e+09,1795294399.2605,NULL,1.79529440005568790431e+09,0.0,6,NULL,NULL,0.0,2.52229178783675670274e+04,2.52229489862700938826e+04,NULL,'[null, null]',0,'[600,400]');
INSERT INTO "predictions" VALUES('job_2e26368d-0-1','job_2e26368d',0,1,'job_2e26368d-0-0',2,'done','draft','draft/edit','edit','fc307b74-1b24-4fdb-ad23-272d304bfcd4','','0',0,'0','0',NULL,NULL,1.79529439922939205174e+09,1.79529440013189792637e+09,NULL,1.79529440075240302081e+09,0.0,6,NULL,NULL,0.0,2.52229178783675670274e+04,25223.8203842422,NULL,'[null, null]',0,'[600,400]');
INSERT INTO "predictions" VALUES('job_2e26368d-1-0','job_2e26368d',1,0,NULL,3,'done','draft','draft/edit','edit','7c918001-681d-4f09-9441-7f4d94d9eb85','','0',0,'0','0',NULL,NULL,1.79529439922939205174e+09,1.79529440076825594907e+09,NULL,1.79529440109089398385e+09,0.0,6,NULL,NULL,0.0,2.52229178783675670274e+04,2.52244567422648906349e+04,NULL,'[null, null]',0,'[451,300]');
INSERT INTO "predictions" VALUES('job_2e26368d-1-1','job_2e26368d',1,1,'job_2e26368d-1-0',4,'done','draft','draft/edit','edit','0852e109-c2eb-4190-8582-5f6bc38ec0ef','','0',0,'0','0',NULL,NULL,1.79529439922939205174e+09,1.79529440112069797515e+09,NULL,1.79529440141207194325e+09,0.0,6,NULL,NULL,0.0,2.52229178783675670274e+04,2.52248091842910289418e+04,NULL,'[null, null]',0,'[451,300]');
INSERT INTO "predictions" VALUES('job_cd4d93de-0-0','job_cd4d93de',0,0,NULL,1,'done','draft','draft/generate-sequential','generate-sequential','7873c94e-ba25-4b8c-aac8-0a4968c3ed58','','0',0,'0','0',NULL,NULL,1.79529439923289394374e+09,1.79529440142863106724e+09,NULL,1.79529440835741496088e+09,0.0,6,NULL,NULL,0.0,2.52229213802596568703e+04,2.52251171173831462515e+04,NULL,'[]',0,'[1024,1024]');
INSERT INTO "predictions" VALUES('job_ac37f1f1-0-0','job_ac37f1f1',0,0,NULL,1,'done','draft','draft/generate-sequential','generate-sequential','a0765ecb-7ccc-4f11-82bb-425d625e2e1b','','0',0,'0','0',NULL,NULL,1.79530409080183911323e+09,1.79530409080880594256e+09,36714.497282433,1.79530409204486203194e+09,35035.735520393,6,NULL,NULL,0.0,34914.490247536,34914.497282433,NULL,'[]',0,'[1024,1024]');
INSERT INTO "predictions" VALUES('job_010425db-0-0','job_010425db',0,0,NULL,1,'done','draft','draft/edit','edit','e9aad693-4149-42a3-824a-eea323416dbe','','0',0,'0','0',NULL,NULL,1.79531739374704408648e+09,1.79531739376880598068e+09,50017.45728135,1.79531739392038607594e+09,48337.616789461,6,NULL,NULL,0.0,48217.435424187,48217.45728135,NULL,'[null,null]',0,'[512,384]');
INSERT INTO "predictions" VALUES('job_010425db-0-1','job_010425db',0,1,'job_010425db-0-0',2,'done','draft','draft/edit','edit','cb37c80e-ba5f-4933-8ef9-3594f6355256','','0',0,'0','0',NULL,NULL,1.79531739374704408648e+09,1.79531739393730092047e+09,50017.625777059,1.79531739399821496008e+09,48337.691741543,6,NULL,NULL,0.0,48217.435424187,48217.625777059,NULL,'[null,null]',0,'[512,384]');
INSERT INTO "predictions" VALUES('job_9204f18f-0-0','job_9204f18f',0,0,NULL,1,'done','draft','draft/layers','layers','fbc18082-6c6a-43b6-b748-7f4c514860f5','','0',0,'0','0',NULL,NULL,1.79531739402860403059e+09,1.79531739403596711157e+09,50017.724443482,1795317394.63586,48338.328780457,6,NULL,NULL,0.0,48217.716974458,48217.724443482,NULL,'[null]',0,'[600,400]');
INSERT INTO "predictions" VALUES('job_70c261e9-0-0','job_70c261e9',0,0,NULL,1,'done','draft','draft/edit','edit','bb4d8b1d-7abd-41fd-8c36-a6c4f63fde87','','0',0,'0','0',NULL,NULL,1.79533123920929503438e+09,1.79533123956745409958e+09,63863.25593073,1.79533123986837410924e+09,62183.562768223,6,NULL,NULL,0.0,62062.897639399,62063.25593073,NULL,'[null,null]',0,'[320,208]');
INSERT INTO "predictions" VALUES('job_70c261e9-0-1','job_70c261e9',0,1,'job_70c261e9-0-0',2,'done','draft','draft/edit','edit','3cf2a5cf-a138-4f44-94d2-7fb66357a411','','0',0,'0','0',NULL,NULL,1.79533123920929503438e+09,1795331239.88504,63863.573516265,1.79533124006871509553e+09,62183.763392447,6,NULL,NULL,0.0,62062.897639399,62063.573516265,NULL,'[null,null,null]',0,'[320,208]');
INSERT INTO "predictions" VALUES('job_70c261e9-1-0','job_70c261e9',1,0,NULL,3,'done','draft','draft/edit','edit','40ff76bc-56eb-4c13-b7b7-4cadb83901d9','','0',0,'0','0',NULL,NULL,1.79533123920929503438e+09,1.79533123956803393364e+09,63863.256509192,1.7953312398686010838e+09,62183.562878287,6,NULL,NULL,0.0,62062.897639399,62063.256509192,NULL,'[null,null]',0,'[320,208]');
INSERT INTO "predictions" VALUES('job_70c261e9-1-1','job_70c261e9',1,1,'job_70c261e9-1-0',4,'done','draft','draft/edit','edit','957f5852-8f9b-4a03-b5e3-c9ae57585489','','0',0,'0','0',NULL,NULL,1.79533123920929503438e+09,1.7953312398794488907e+09,63863.567923808,1.79533124006851696973e+09,62183.763276143,6,NULL,NULL,0.0,62062.897639399,62063.567923808,NULL,'[null,null,null]',0,'[320,208]');
INSERT INTO "predictions" VALUES('job_da257328-0-0','job_da257328',0,0,NULL,1,'done','draft','draft/generate-sequential','generate-sequential','af795840-970b-4a60-a27c-3ea697498e75','','0',0,'0','0',NULL,NULL,1.79533124011004400254e+09,1.79533124013418793679e+09,63863.822664424,1.79533124595465493197e+09,62189.704737098,6,NULL,NULL,0.0,62063.798442406,62063.822664424,NULL,'[]',0,'[1024,1024]');
CREATE TABLE saved_files (
  path TEXT PRIMARY KEY
);
INSERT INTO "saved_files" VALUES('/home/you/Pictures/job_da257328-01.png');
INSERT INTO "saved_files" VALUES('/home/you/Pictures/job_da257328-02.png');
CREATE TABLE saves (
  job_id    TEXT NOT NULL,
  directory TEXT NOT NULL,
  saved     INTEGER NOT NULL DEFAULT 0, -- how many of the job's images were stored when it was last copied
  PRIMARY KEY (job_id, directory)
);
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
CREATE INDEX predictions_queued ON predictions (provider, due_at, created_at, lane, step) WHERE state = 'queued';
CREATE INDEX predictions_unsettled ON predictions (attempts, due_at)
WHERE state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL;
CREATE INDEX predictions_leased ON predictions (lease) WHERE lease IS NOT NULL;
CREATE INDEX frames_stored ON frames (job_id) WHERE sha256 IS NOT NULL;
CREATE INDEX jobs_by_retry ON jobs (json_extract(request, '$.retry_of'))
  WHERE json_extract(request, '$.retry_of') IS NOT NULL;
INSERT INTO "saves" VALUES('job_88c808e5','/home/you/Pictures',-1);
INSERT INTO "saves" VALUES('job_35c2ea4c','/home/you/Pictures',4);
COMMIT;
PRAGMA user_version = 10;
PRAGMA application_id = 10;
