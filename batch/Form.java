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
                form.append(form.length() == 0 ? "" : "&").append(URLEncoder.encode(name, StandardCharsets.UTF_8)).append('=')
                    .append(URLEncoder.encode(value.toString(), StandardCharsets.UTF_8));
            }
        });
        return form.toString();
    }

    /** @throws RuntimeException when the text is not such a line */
    static Map<String, String> decode(String form) {
        Map<String, String> values = new LinkedHashMap<>();
        for (String pair : form.isEmpty() ? new String[0] : form.split("&")) {
            int equals = pair.indexOf('=');
            values.put(URLDecoder.decode(pair.substring(0, equals), StandardCharsets.UTF_8),
                URLDecoder.decode(pair.substring(equals + 1), StandardCharsets.UTF_8));
        }
        return values;
    }

    private Form() {
    }
}
