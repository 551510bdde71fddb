package checks;

import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;

/** Marks a method that Checks runs by its name. */
@Retention(RetentionPolicy.RUNTIME)
@interface Check {
}
