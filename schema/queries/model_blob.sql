-- One saved model, in hexadecimal digits.
-- for: detector
SELECT hex(blob) AS blob_hex, sha256 AS digest
FROM {processing}.ml_models FINAL
WHERE model_name = {model_name:String} AND model_version = {model_version:UInt32}
LIMIT 1
