package org.hilum.hapi;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/**
 * What the bearer of one signed grant may do with one request.
 *
 * @param expires seconds since 1970
 * @param request digest of the method and path that it was made for
 * @param rules a resource must be covered by one of them
 * @param operations names such as `$everything` that may be called
 * @param counts whether totals may be told, because the search is narrowed to what is covered
 */
record Grant(long expires, String request, List<Rule> rules, Set<String> operations, boolean counts) {

  /** Name of the servlet request's attribute that holds the grant. */
  static final String ATTRIBUTE = Grant.class.getName();

  static Grant of(JsonNode claims) {
    var rules = new ArrayList<Rule>();
    claims.path("rules").forEach(node -> rules.add(Rule.of(node)));
    var operations = new TreeSet<String>();
    claims.path("ops").forEach(node -> operations.add(node.asText()));
    return new Grant(
        claims.path("exp").asLong(),
        claims.path("req").asText(),
        List.copyOf(rules),
        Set.copyOf(operations),
        claims.path("counts").asBoolean(false));
  }

  /** Whether some rule speaks of this type and one of these letters. */
  boolean names(String type, String anyOf) {
    return rules.stream().anyMatch(rule -> rule.names(type, anyOf));
  }

  /** Whether every resource of the type is covered for one of these letters. */
  boolean coversAll(String type, String anyOf) {
    return rules.stream().anyMatch(rule -> rule.unlimited() && rule.names(type, anyOf));
  }

  /** Whether it covers every resource of every type for one of these letters. */
  boolean coversEverything(String anyOf) {
    return rules.stream()
        .anyMatch(rule -> rule.types().isEmpty() && rule.unlimited() && rule.names("", anyOf));
  }
}
