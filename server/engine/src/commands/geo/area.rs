//! The cells that cover an area: the one of its middle and those around it.

use super::place::{Cell, LATITUDES, Place, STEPS_MAX, degrees_of_metres, radians};

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// All within so many metres.
    Circle { radius_m: f64 },
    /// All within a box whose middle is given; its sides are so many metres.
    Box { width_m: f64, height_m: f64 },
}

/// A shape around its middle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) middle: Place,
    pub(super) shape: Shape,
}

impl Area {
    /// The distance of a place from the middle, in metres, if it is inside.
    pub(super) fn distance_m(&self, place: Place) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius_m } => {
                let distance = self.middle.distance_m(place);
                (distance <= radius_m).then_some(distance)
            }
            Shape::Box { width_m, height_m } => {
                if place.latitude_distance_m(self.middle) > height_m / 2.0 {
                    return None;
                }
                let beside = Place { longitude: self.middle.longitude, ..place };
                if place.distance_m(beside) > width_m / 2.0 {
                    return None;
                }
                Some(self.middle.distance_m(place))
            }
        }
    }

    /// From the least to the greatest longitude and latitude.
    fn bounds(&self) -> [f64; 4] {
        let (width, height) = match self.shape {
            Shape::Circle { radius_m } => (radius_m, radius_m),
            Shape::Box { width_m, height_m } => (width_m / 2.0, height_m / 2.0),
        };
        let Place { longitude, latitude } = self.middle;
        let up = degrees_of_metres(height);
        // Towards the pole degrees are shorter.
        let widest = if latitude < 0.0 { latitude - up } else { latitude + up };
        let aside = degrees_of_metres(width) / libm::cos(radians(widest));
        [longitude - aside, longitude + aside, latitude - up, latitude + up]
    }

    /// How often the grid is halved so that the middle's cell and those around it may do.
    fn steps(&self) -> u32 {
        const MERCATOR_MAX_M: f64 = 20_037_726.37;
        let mut radius_m = match self.shape {
            Shape::Circle { radius_m } => radius_m,
            Shape::Box { width_m, height_m } => {
                let (x, y) = (width_m / 2.0, height_m / 2.0);
                libm::sqrt(x * x + y * y)
            }
        };
        if radius_m == 0.0 {
            return STEPS_MAX;
        }
        let mut steps = 1;
        while radius_m < MERCATOR_MAX_M {
            radius_m *= 2.0;
            steps += 1;
        }
        steps -= 2;
        let latitude = self.middle.latitude.abs();
        for pole in [66.0, 80.0] {
            if latitude > pole {
                steps -= 1;
            }
        }
        u32::try_from(steps).unwrap_or(0).clamp(1, STEPS_MAX)
    }

    /// The cells to look through, in Redis's order; those that cannot hold anything are left out.
    pub(super) fn cells(&self) -> Vec<Cell> {
        /// East and north of the middle: itself, north, south, east, west, and the corners.
        const AROUND: [(i32, i32); 9] =
            [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let [west, east, south, north] = self.bounds();
        let mut steps = self.steps();
        let mut cell = Cell::at(self.middle, LATITUDES, steps);
        // An area near the edge of its cell may reach beyond the next.
        let reaches_far = cell.neighbour(0, 1).area().latitudes.max < north
            || cell.neighbour(0, -1).area().latitudes.min > south
            || cell.neighbour(1, 0).area().longitudes.max < east
            || cell.neighbour(-1, 0).area().longitudes.min > west;
        if steps > 1 && reaches_far {
            steps -= 1;
            cell = Cell::at(self.middle, LATITUDES, steps);
        }
        let own = cell.area();
        let is_useless = |(x, y): (i32, i32)| {
            steps >= 2
                && (y < 0 && own.latitudes.min < south
                    || y > 0 && own.latitudes.max > north
                    || x < 0 && own.longitudes.min < west
                    || x > 0 && own.longitudes.max > east)
        };
        let mut cells: Vec<Cell> = Vec::with_capacity(AROUND.len());
        for direction in AROUND.into_iter().filter(|direction| !is_useless(*direction)) {
            let next = cell.neighbour(direction.0, direction.1);
            // In a coarse grid neighbours are the same cell; Redis skips one that is the same as
            // the last, unless that is the middle.
            if cells.len() < 2 || cells.last() != Some(&next) {
                cells.push(next);
            }
        }
        cells
    }
}
