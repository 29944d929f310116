// SPDX-License-Identifier: Apache-2.0
// JSON Schema, as much as the request bodies need: one text says what is accepted and what the OpenAPI document
// promises.
#pragma once

#include <string>

#include "server/error.h"

namespace comet::server {

// Throws ApiError 400 that names the place ("messages[0].role") for the first thing in `value` that `schema` does not
// allow. Understood: type (also a list), enum, minimum, maximum, exclusiveMinimum, minLength, maxLength, minItems,
// maxItems, items, properties, required, additionalProperties (false, or a schema), minProperties, propertyNames
// (pattern "^[0-9]+$" only), anyOf.
void check_schema(const Json& value, const Json& schema, const std::string& place);

}  // namespace comet::server
