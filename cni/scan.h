// Finds a text among the fields of a JSON object, and reads nothing else: the agent does the real parsing.
// Never looks beyond `end`, however broken the text is.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum found { ABSENT, FOUND, BROKEN };

struct cursor {
	const char *at;
	const char *end;
};

struct span {
	const char *start;
	size_t length;
};

static void skip_space(struct cursor *cursor)
{
	while (cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at) && *cursor->at)
		cursor->at++;
}

static bool take_char(struct cursor *cursor, char wanted)
{
	skip_space(cursor);
	if (cursor->at == cursor->end || *cursor->at != wanted)
		return false;
	cursor->at++;
	return true;
}

// From its quote; the span is what stands between the quotes, escapes and all.
static bool take_string(struct cursor *cursor, struct span *span)
{
	if (!take_char(cursor, '"'))
		return false;
	span->start = cursor->at;
	for (; cursor->at < cursor->end; cursor->at++) {
		if (*cursor->at == '"') {
			span->length = (size_t)(cursor->at - span->start);
			cursor->at++;
			return true;
		}
		if (*cursor->at == '\\' && ++cursor->at == cursor->end)
			return false;
	}
	return false;
}

// Lists and objects by their depth alone: whether brackets match is for the agent to see.
static bool skip_value(struct cursor *cursor)
{
	size_t depth = 0;
	struct span span;

	skip_space(cursor);
	while (cursor->at < cursor->end) {
		char next = *cursor->at;

		if (next == '"') {
			if (!take_string(cursor, &span))
				return false;
		} else if (next == '{' || next == '[') {
			depth++;
			cursor->at++;
		} else if (next == '}' || next == ']') {
			if (depth == 0)
				return true;
			depth--;
			cursor->at++;
		} else if (next == ',' && depth == 0) {
			return true;
		} else {
			cursor->at++;
		}
	}
	return false;
}

static bool is_text(struct span span, const char *text)
{
	return span.length == strlen(text) && memcmp(span.start, text, span.length) == 0;
}

// Plain text only: an escape, a zero or more than `size` bytes make it as good as absent.
static bool copy_text(struct span span, char *out, size_t size)
{
	if (span.length >= size || memchr(span.start, '\\', span.length) ||
	    memchr(span.start, 0, span.length))
		return false;
	memcpy(out, span.start, span.length);
	out[span.length] = 0;
	return true;
}

// The value of the object's own field `key`; of several, the last, as every JSON parser has it.
static enum found find_text(const char *json, size_t length, const char *key, char *out, size_t size)
{
	struct cursor cursor = {json, json + length};
	enum found found = ABSENT;
	struct span name, value;

	if (!take_char(&cursor, '{'))
		return BROKEN;
	if (take_char(&cursor, '}'))
		return ABSENT;
	do {
		struct cursor before;

		if (!take_string(&cursor, &name) || !take_char(&cursor, ':'))
			return BROKEN;
		before = cursor;
		if (is_text(name, key))
			found = take_string(&before, &value) && copy_text(value, out, size) ? FOUND : ABSENT;
		if (!skip_value(&cursor))
			return BROKEN;
	} while (take_char(&cursor, ','));
	return take_char(&cursor, '}') ? found : BROKEN;
}
