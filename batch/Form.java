import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** Names and values as one line of ASCII that keeps them exactly: {@code application/x-www-form-urlencoded}. */
final class Form {
    /** Without the values that are null. */
    static String encode(Map<String, ?> values) {
        StringBuilder form = new StringBuilder();
        values.forEach((name, value) -> {
            if (value != null) {
                form.append(form.length() == 0 ? "" : "&").append(encode(name)).append('=')
                    .append(encode(value.toString()));
            }
        });
        return form.toString();
    }

    /** @throws RuntimeException when the text is not such a line */
    static Map<String, String> decode(String form) {
        Map<String, String> values = new LinkedHashMap<>();
        for (String pair : form.isEmpty() ? new String[0] : form.split("&")) {
            int equals = pair.indexOf('=');
            values.put(decodeText(pair.substring(0, equals)), decodeText(pair.substring(equals + 1)));
        }
        return values;
    }

    static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }

    static String decodeText(String text) {
        return URLDecoder.decode(text, StandardCharsets.UTF_8);
    }

    private Form() {
    }
}
