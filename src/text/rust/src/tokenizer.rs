// SPDX-License-Identifier: Apache-2.0
//! Tokenizers: ../comet_text.h says what goes in and out.

use tokenizers::{AddedToken, Tokenizer};

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

pub fn create(json: &[u8], added_tokens: &[u8]) -> Result<(Tokenizer, Vec<u8>), String> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
    let added_tokens: Vec<AddedToken> = serde_json::from_slice(added_tokens).map_err(|e| e.to_string())?;
    for token in added_tokens {
        let id = tokenizer.token_to_id(&token.content);
        let known = id.and_then(|id| tokenizer.get_added_tokens_decoder().remove(&id));
        if known.is_none_or(|known| token.special && !known.special) {
            tokenizer.add_tokens(&[token]);
        }
    }
    // Cutting and padding belong to training; transformers drops them as well.
    tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
    tokenizer.with_padding(None);

    let mut out = Vec::new();
    put(&mut out, &serde_json::to_vec(&tokenizer.get_decoder()).map_err(|e| e.to_string())?);
    let added = tokenizer.get_added_tokens_decoder();
    for (token, id) in tokenizer.get_vocab(true) {
        let flags = added.get(&id).map_or(0, |t| 1 + 2 * u32::from(t.special));
        out.extend([id, flags].map(u32::to_le_bytes).as_flattened());
        put(&mut out, token.as_bytes());
    }
    Ok((tokenizer, out))
}

pub fn encode(tokenizer: &Tokenizer, text: &[u8], add_special: bool) -> Result<Vec<u8>, String> {
    let encoding = tokenizer.encode_fast(String::from_utf8_lossy(text), add_special).map_err(|e| e.to_string())?;
    Ok(encoding.get_ids().iter().flat_map(|id| id.to_le_bytes()).collect())
}

pub fn decode(tokenizer: &Tokenizer, ids: &[u8], skip_special: bool) -> Result<Vec<u8>, String> {
    let ids: Vec<u32> = ids.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    tokenizer.decode(&ids, skip_special).map(String::into_bytes).map_err(|e| e.to_string())
}
