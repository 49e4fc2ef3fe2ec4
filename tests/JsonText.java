import java.io.StringReader;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import jakarta.json.Json;
import jakarta.json.JsonArray;
import jakarta.json.JsonConfig;
import jakarta.json.JsonNumber;
import jakarta.json.JsonObject;
import jakarta.json.JsonReader;
import jakarta.json.JsonReaderFactory;
import jakarta.json.JsonString;
import jakarta.json.JsonValue;

/** JSON as maps and lists of String, Long, Double and Boolean; a name that an object has twice is refused. */
final class JsonText {
    private static final JsonReaderFactory STRICT =
        Json.createReaderFactory(Map.of(JsonConfig.KEY_STRATEGY, JsonConfig.KeyStrategy.NONE));

    private JsonText() {
    }

    static Map<String, Object> object(String text) {
        return plain(read(text).asJsonObject());
    }

    /** An array of objects. */
    static List<Map<String, Object>> objects(String text) {
        return read(text).asJsonArray().stream().map(value -> plain(value.asJsonObject())).toList();
    }

    private static JsonValue read(String text) {
        try (JsonReader reader = STRICT.createReader(new StringReader(text))) {
            return reader.readValue();
        } catch (RuntimeException e) {
            throw new AssertionError(e.getMessage() + ": " + text, e);
        }
    }

    private static Map<String, Object> plain(JsonObject object) {
        Map<String, Object> members = new LinkedHashMap<>();
        object.forEach((name, value) -> members.put(name, plain(value)));
        return members;
    }

    private static List<Object> plain(JsonArray array) {
        List<Object> elements = new ArrayList<>();
        array.forEach(value -> elements.add(plain(value)));
        return elements;
    }

    private static Object plain(JsonValue value) {
        return switch (value.getValueType()) {
            case OBJECT -> plain(value.asJsonObject());
            case ARRAY -> plain(value.asJsonArray());
            case STRING -> ((JsonString) value).getString();
            case NUMBER -> plain((JsonNumber) value);
            case TRUE -> true;
            case FALSE -> false;
            case NULL -> null;
        };
    }

    private static Object plain(JsonNumber number) {
        return number.isIntegral() ? (Object) number.longValueExact() : (Object) number.doubleValue();
    }
}
